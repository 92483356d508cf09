/* SPDX-License-Identifier: Apache-2.0 */
/* Moves that are in no table of states: of a shell, of a VM, of a generation's span. Each is made
 * in a separate process, and an assertion must end this process. Skipped in a release build, which
 * has no assertions. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "vmm/fork/generation.h"
#include "vmm/kvm/shell-make.h"
#include "vmm/vm/life.h"
#include "vmm/vm/vm.h"

#ifndef NDEBUG

/* Runs `move` in a separate process. Returns the signal that ended the process, or 0. */
static int run(void (*move)(void))
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (!pid) {
		struct rlimit none = { 0 };

		setrlimit(RLIMIT_CORE, &none);
		signal(SIGABRT, SIG_DFL);
		freopen("/dev/null", "w", stderr);
		move();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) == 0);
	return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

/* ---- a shell; none of these moves comes as far as a vCPU ---- */

static const struct machine machine = { .cpus = 1 };
static struct shell shell = { .machine = &machine, .vm_fd = -1 };

static void stop_idle(void)
{
	shell_stop(&shell, NULL);
}

static void save_running(void)
{
	shell.state = SHELL_RUNNING;
	shell_save(&shell, NULL);
}

static void start_twice(void)
{
	shell.state = SHELL_STARTING;
	shell_start_async(&shell, NULL, NULL, SHELL_FREE);
}

static void await_nothing(void)
{
	shell_await(&shell);
}

static void free_running(void)
{
	shell.state = SHELL_RUNNING;
	shell_free(&shell);
}

static void command_before_all_obeyed(void)
{
	atomic_store(&shell.pending, 1);
	shell_start_async(&shell, NULL, NULL, SHELL_FREE);
}

static void await_a_start(void)
{
	shell.state = SHELL_STARTING;
	if (shell_await(&shell) || shell.state != SHELL_RUNNING)
		abort();
}

/* The commander lets a held shell go once; later calls do nothing. */
static void release(void)
{
	atomic_store(&shell.held, SHELL_HELD);
	shell_release(&shell);
	if (atomic_load(&shell.held))
		abort();
	shell_release(&shell);
}

static void test_shell(void **state)
{
	assert_int_equal(run(release), 0);
	assert_int_equal(run(stop_idle), SIGABRT);
	assert_int_equal(run(save_running), SIGABRT);
	assert_int_equal(run(start_twice), SIGABRT);
	assert_int_equal(run(await_nothing), SIGABRT);
	assert_int_equal(run(free_running), SIGABRT);
	assert_int_equal(run(command_before_all_obeyed), SIGABRT);
	assert_int_equal(run(await_a_start), 0);
}

/* ---- a VM ---- */

static struct ramet_vm vm;

static void through(const enum ramet_state *states, unsigned n)
{
	lock_init(&vm.op, LOCK_VM_OP);
	lock_take(&vm.op);
	atomic_store(&vm.state, states[0]);
	for (unsigned i = 1; i < n; i++)
		vm_move(&vm, states[i]);
	lock_release(&vm.op);
}

#define MOVES(name, ...)                                                  \
	static void name(void)                                            \
	{                                                                 \
		static const enum ramet_state states[] = { __VA_ARGS__ }; \
                                                                          \
		through(states, sizeof(states) / sizeof(states[0]));      \
	}

MOVES(rises, RAMET_STOPPED, RAMET_RUNNING)
MOVES(rises_paused, RAMET_FAILED, RAMET_PAUSED)
MOVES(fails_late, RAMET_STOPPED, RAMET_FAILED)
MOVES(runs_twice, RAMET_RUNNING, RAMET_RUNNING)
MOVES(pauses_twice, RAMET_PAUSED, RAMET_PAUSED)
MOVES(fails_twice, RAMET_PAUSED, RAMET_FAILED, RAMET_FAILED)
MOVES(lives, RAMET_PAUSED, RAMET_RUNNING, RAMET_PAUSED, RAMET_RUNNING, RAMET_FAILED, RAMET_STOPPED,
	RAMET_STOPPED)

static void test_vm(void **state)
{
	assert_int_equal(run(rises), SIGABRT);
	assert_int_equal(run(rises_paused), SIGABRT);
	assert_int_equal(run(fails_late), SIGABRT);
	assert_int_equal(run(runs_twice), SIGABRT);
	assert_int_equal(run(pauses_twice), SIGABRT);
	assert_int_equal(run(fails_twice), SIGABRT);
	assert_int_equal(run(lives), 0);
}

#ifdef RAMET_LOCK_CHECK
static void moves_without_op(void)
{
	vm_move(&vm, RAMET_STOPPED);
}

static void test_vm_without_op(void **state)
{
	assert_int_equal(run(moves_without_op), SIGABRT);
}
#endif

/* ---- a generation's span ---- */

static _Atomic uint8_t span[3] = { GEN_DEFERRED, GEN_RESOLVED, GEN_DEFERRED };
static struct generation generation = { .id = 7, .span = span };

static void leaves_deferred(void)
{
	generation_unclaim(&generation, span_nr(0), GEN_RESOLVED);
}

static void leaves_twice(void)
{
	if (generation_claim(&generation, span_nr(0))) {
		generation_unclaim(&generation, span_nr(0), GEN_RESOLVED);
		generation_unclaim(&generation, span_nr(0), GEN_TAKEN);
	}
}

static void leaves_as_busy(void)
{
	if (generation_claim(&generation, span_nr(0)))
		generation_unclaim(&generation, span_nr(0), GEN_BUSY);
}

static void resolves(void)
{
	if (generation_claim(&generation, span_nr(1)) || !generation_claim(&generation, span_nr(2)))
		abort();
	generation_unclaim(&generation, span_nr(2), GEN_DEFERRED);
	if (!generation_claim(&generation, span_nr(2)))
		abort();
	generation_unclaim(&generation, span_nr(2), GEN_COPIED);
	if (generation_claim(&generation, span_nr(2)))
		abort();
}

static void test_span(void **state)
{
	assert_int_equal(run(leaves_deferred), SIGABRT);
	assert_int_equal(run(leaves_twice), SIGABRT);
	assert_int_equal(run(leaves_as_busy), SIGABRT);
	assert_int_equal(run(resolves), 0);
}

#ifdef RAMET_LOCK_CHECK
/* ---- the order of overlays and spans: from younger generations to older ones ---- */

static struct generation base = { .id = 3, .span = span + 2 };
static struct view overlay_view;

static void freeze(struct generation *g)
{
	lock_init(&overlay_view.lock, LOCK_VIEW);
	shell.view = &overlay_view;
	g->overlay = &shell;
}

static void overlay_before_span(void)
{
	freeze(&generation);
	generation_lock_overlay(&generation);
	generation_claim(&generation, span_nr(0));
}

static void older_span_first(void)
{
	if (generation_claim(&base, span_nr(0)))
		generation_claim(&generation, span_nr(0));
}

static void older_overlay_first(void)
{
	freeze(&base);
	generation_lock_overlay(&base);
	generation_claim(&generation, span_nr(0));
}

static void younger_first(void)
{
	freeze(&generation);
	if (!generation_claim(&generation, span_nr(0)))
		abort();
	generation_lock_overlay(&generation);
	if (!generation_claim(&base, span_nr(0)))
		abort();
}

static void test_order(void **state)
{
	assert_int_equal(run(overlay_before_span), SIGABRT);
	assert_int_equal(run(older_span_first), SIGABRT);
	assert_int_equal(run(older_overlay_first), SIGABRT);
	assert_int_equal(run(younger_first), 0);
}
#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_shell),
		cmocka_unit_test(test_vm),
#ifdef RAMET_LOCK_CHECK
		cmocka_unit_test(test_vm_without_op),
		cmocka_unit_test(test_order),
#endif
		cmocka_unit_test(test_span),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

#else

int main(void)
{
	return 77;
}

#endif
