/* SPDX-License-Identifier: Apache-2.0 */
/* The check of the order of locks: it aborts for each kind of error, and never otherwise; and
 * docs/locking.md has the order that it checks. Skipped in a build without the check. */
#include <errno.h>
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

#include "vmm/base/clock.h"
#include "vmm/base/lock.h"

#ifdef RAMET_LOCK_CHECK

static struct lock host, op, child_op, view, overlay, memory, settler, reaper;
static struct rwlock operations;
static const char younger_first[] = "younger generations come first";

static int set_up(void **state)
{
	rwlock_init(&operations, LOCK_OPERATIONS);
	lock_init(&host, LOCK_HOST);
	lock_init(&op, LOCK_VM_OP);
	lock_init(&child_op, LOCK_VM_OP);
	lock_init(&view, LOCK_VIEW);
	lock_init(&overlay, LOCK_VIEW);
	lock_init(&memory, LOCK_MEMORY);
	lock_init(&settler, LOCK_SETTLER);
	lock_init(&reaper, LOCK_REAPER);
	return 0;
}

/* Runs `wrong` in a separate process, which must abort and print this text. */
static void dies(void (*wrong)(void), const char *says)
{
	char said[2048];
	size_t len = 0;
	int out[2], status;
	ssize_t n;
	pid_t pid;

	assert_int_equal(pipe(out), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		struct rlimit none = { 0 };

		setrlimit(RLIMIT_CORE, &none);
		signal(SIGABRT, SIG_DFL);
		dup2(out[1], STDERR_FILENO);
		wrong();
		_exit(0);
	}
	close(out[1]);
	while ((n = read(out[0], said + len, sizeof(said) - 1 - len)) > 0)
		len += (size_t)n;
	said[len] = 0;
	close(out[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGABRT || !strstr(said, says))
		fail_msg("status %#x, said '%s', not '%s'", (unsigned)status, said, says);
	assert_non_null(strstr(said, "docs/locking.md"));
}

/* ---- wrong ---- */

static void up(void)
{
	lock_take(&view);
	lock_take(&op);
}

static void up_after_try(void)
{
	assert_true(lock_try(&op));
	rwlock_read(&operations);
}

static void under_leaf(void)
{
	lock_take(&settler);
	lock_take(&reaper);
}

static void same_rank(void)
{
	lock_take(&view);
	lock_take(&overlay);
}

static void older_first(void)
{
	lock_take_nested(&overlay, 2, younger_first);
	lock_take_nested(&view, 3, younger_first);
}

static void span_after_overlay(void)
{
	lock_take_nested(&overlay, 2, younger_first);
	lock_may_enter(LOCK_SPAN, &host, 3, younger_first);
}

static void span_after_memory(void)
{
	lock_take(&memory);
	lock_may_enter(LOCK_SPAN, &host, 3, younger_first);
}

static void twice(void)
{
	lock_take(&op);
	lock_take(&op);
}

static void read_twice(void)
{
	rwlock_read(&operations);
	rwlock_read(&operations);
}

static void not_held(void)
{
	lock_release(&op);
}

static void not_read(void)
{
	rwlock_release(&operations);
}

static void span_not_held(void)
{
	lock_left(&host);
}

static void destroyed_while_held(void)
{
	lock_take(&op);
	lock_destroy(&op);
}

static void never_made(void)
{
	static struct lock none;

	lock_take(&none);
}

static void not_asserted(void)
{
	lock_assert_held(&op);
}

static void throttled_with_operations(void)
{
	rwlock_read(&operations);
	lock_may_wait_for(WAIT_ROOM);
}

static void joins_with_op(void)
{
	lock_take(&op);
	lock_may_wait_for(WAIT_END);
}

static void awaits_with_view(void)
{
	lock_take(&op);
	lock_take(&view);
	lock_may_wait_for(WAIT_VCPUS);
}

static void waits_with_lower(void)
{
	pthread_cond_t cond = PTHREAD_COND_INITIALIZER;

	lock_take(&host);
	lock_take(&settler);
	cond_wait(&cond, &host);
}

static void waits_without(void)
{
	pthread_cond_t cond = PTHREAD_COND_INITIALIZER;

	cond_wait(&cond, &host);
}

static void test_wrong(void **state)
{
	dies(up, "taking vm.op at tests/unit/lock.c:");
	dies(up, "after view.lock; the thread holds view.lock, taken at tests/unit/lock.c:");
	dies(up_after_try, "taking family.operations");
	dies(under_leaf, "under the leaf settler.lock");
	dies(same_rank, "without lock_take_nested() while it has another view.lock");
	dies(older_first, "in the wrong order: nested, since younger generations come first; the "
			  "thread holds view.lock");
	dies(span_after_overlay,
		"in the wrong order: nested, since younger generations come first; the "
		"thread holds view.lock");
	dies(span_after_memory, "under the leaf memory.lock");
	dies(twice, "which the thread already holds;");
	dies(read_twice, "taking family.operations");
	dies(not_held, "releasing vm.op");
	dies(not_read, "which the thread does not hold");
	dies(span_not_held, "which the thread does not hold");
	dies(destroyed_while_held, "destroying a lock");
	dies(never_made, "never initialised");
	dies(not_asserted, "should be held");
	dies(throttled_with_operations, "waiting for the settler, for a place");
	dies(joins_with_op, "waiting for the end of a thread at tests/unit/lock.c:");
	dies(awaits_with_view, "waiting for the vCPUs of a shell");
	dies(waits_with_lower, "under the leaf settler.lock");
	dies(waits_without, "releasing host.lock");
}

/* ---- right ---- */

static void test_right(void **state)
{
	pthread_cond_t cond;
	struct timespec soon;

	cond_init(&cond);
	lock_take(&host);
	rwlock_read(&operations);
	lock_may_wait_for(WAIT_SETTLED);
	lock_take(&op);
	lock_assert_held(&op);
	lock_may_wait_for(WAIT_VCPUS);
	lock_take_nested(&child_op, 1, "no other thread knows the child");
	lock_take(&view);
	lock_may_enter(LOCK_SPAN, &soon, 5, younger_first);
	lock_entered(LOCK_SPAN, &soon, 5);
	lock_take_nested(&overlay, 4, younger_first);
	lock_take(&memory);
	/* Locks may be released in any order. */
	lock_left(&soon);
	rwlock_release(&operations);
	lock_release(&view);
	lock_release(&overlay);
	lock_release(&memory);
	lock_release(&op);
	lock_release(&child_op);
	soon = timespec_of(now_ns() + 1000000);
	assert_int_equal(cond_wait_until(&cond, &host, &soon), ETIMEDOUT);
	lock_assert_held(&host);
	lock_release(&host);
	/* A try is allowed under any lock. */
	lock_take(&settler);
	assert_true(lock_try(&op));
	lock_release(&op);
	lock_release(&settler);
	rwlock_write(&operations);
	rwlock_release(&operations);
	lock_may_wait_for(WAIT_ROOM);
	pthread_cond_destroy(&cond);
}

static void *tries(void *arg)
{
	bool *taken = arg;

	*taken = lock_try(&op);
	return NULL;
}

static void test_try_fails(void **state)
{
	pthread_t thread;
	bool taken = true;

	lock_take(&op);
	assert_int_equal(pthread_create(&thread, NULL, tries, &taken), 0);
	pthread_join(thread, NULL);
	assert_false(taken);
	lock_release(&op);
}

/* ---- the document ---- */

#define RANK_NAME(rank, name) name,
static const char *const names[] = { LOCK_RANKS(RANK_NAME) };

/* The first column of each table of docs/locking.md that is a list of locks: `1` and so on. */
static void test_document(void **state)
{
	const char *path = getenv("RAMET_LOCKING_MD"); /* set by meson */
	FILE *f = path ? fopen(path, "r") : NULL;
	size_t n = sizeof(names) / sizeof(names[0]), found = 0;
	char line[4096], begin[100];

	if (!path)
		skip();
	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		unsigned number;

		if (sscanf(line, "| %u |", &number) != 1)
			continue;
		assert_true(found < n);
		assert_int_equal(number, found + 1);
		snprintf(begin, sizeof(begin), "| %u | `%s` |", number, names[found]);
		if (strncmp(line, begin, strlen(begin)) != 0)
			fail_msg("'%s' is not '%s'", line, begin);
		found++;
	}
	fclose(f);
	assert_int_equal(found, n);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_wrong),
		cmocka_unit_test(test_right),
		cmocka_unit_test(test_try_fails),
		cmocka_unit_test(test_document),
	};

	return cmocka_run_group_tests(tests, set_up, NULL);
}

#else

int main(void)
{
	return 77;
}

#endif
