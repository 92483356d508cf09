// SPDX-License-Identifier: Apache-2.0
#include "vmm/kvm/shell.h"

#include <assert.h>
#include <errno.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "vmm/base/futex.h"
#include "vmm/base/priority.h"

enum { VCPU_LOAD = 1, VCPU_RUN = 2, VCPU_SAVE = 4, VCPU_QUIT = 8 };

#define KICK_SIGNAL SIGRTMIN

/* An idle CPU that is virtual itself takes 15 us to wake up, and this happens twice in a pause. So
 * a thread that waits for vCPUs yields to them instead of sleeping, at most this long. */
#define AWAKE_NS 300000u

/*
 * The maximum number of exits until one instruction is complete. KVM's emulator continues inside a
 * string instruction for up to 1024 elements (arch/x86/kvm/emulate.c returns to the guest when RCX
 * & 0x3ff is 0), and an element may take several exits of 8 bytes.
 */
#define EXITS_MAX 65536u

/* ---- the vCPU's thread: real-time, except while it runs the guest ---- */

static void note_error(struct shell *sh, int error)
{
	int no_error = 0;

	if (error)
		atomic_compare_exchange_strong(&sh->error, &no_error, error);
}

static void acknowledge(struct shell *sh, int error)
{
	uint64_t now = now_ns(), last = atomic_load(&sh->done_ns);
	unsigned left;

	note_error(sh, error);
	while (last < now && !atomic_compare_exchange_weak(&sh->done_ns, &last, now))
		;
	left = atomic_fetch_sub(&sh->pending, 1);
	assert(left); /* each vCPU once for each command */
	if (left == 1)
		futex_wake_all(&sh->pending);
}

static const struct vcpu_ops *ops(const struct vcpu *vcpu)
{
	return vcpu->shell->machine->vcpu_ops;
}

/*
 * An exit is complete only when KVM_RUN has been entered again (api.rst). So enter KVM_RUN without
 * running the guest, until KVM returns EINTR, which it does only between instructions. The same is
 * done for a VM that has ended: otherwise the instruction would be completed in the next VM of this
 * shell. Returns 0, or -errno: then the instruction stays half done. This state must not be saved,
 * and this shell must not be used again.
 */
static int complete_io(struct vcpu *vcpu, bool runnable)
{
	__atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
	for (unsigned i = 0; i < EXITS_MAX; i++) {
		if (ioctl(vcpu->fd, KVM_RUN, 0) == 0) {
			if (runnable)
				runnable = ops(vcpu)->exit(vcpu);
			continue;
		}
		/* EAGAIN: the vCPU waits for its SIPI, so it has no exit to complete. */
		if (errno == EINTR || errno == EAGAIN)
			return 0;
		if (runnable)
			ops(vcpu)->failed(vcpu, -errno);
		return -EIO;
	}
	return -ELOOP;
}

static void await_release(struct shell *sh)
{
	uint64_t asleep = now_ns() + AWAKE_NS;
	unsigned hold;

	while ((hold = atomic_load(&sh->held)) != SHELL_FREE)
		if (hold == SHELL_SOON && now_ns() < asleep)
			sched_yield();
		else
			futex_wait(&sh->held, hold, 0);
}

void vcpu_ordinary(struct vcpu *vcpu, uint64_t slice_ns)
{
	hurry_slice(slice_ns);
	/* As in hurry_end(). */
	if (atomic_load(&vcpu->shell->stop))
		hurry_self(true);
}

static int run_until_stopped(struct vcpu *vcpu)
{
	struct shell *sh = vcpu->shell;
	bool runnable = ops(vcpu)->may_begin(vcpu);
	/* KVM_RUN must still read the loaded registers, or complete an exit. */
	bool unfinished = true;

	vcpu_ordinary(vcpu, NEWBORN_SLICE_NS);
	while (!atomic_load(&sh->stop)) {
		if (!runnable) {
			futex_wait(&sh->stop, 0, 0);
			continue;
		}
		unfinished = true;
		if (ioctl(vcpu->fd, KVM_RUN, 0) == 0) {
			runnable = ops(vcpu)->exit(vcpu);
		} else if (errno == EINTR || errno == EAGAIN) {
			unfinished = false;
			runnable = ops(vcpu)->wanted(vcpu);
		} else {
			ops(vcpu)->failed(vcpu, -errno);
			runnable = false;
		}
	}
	return unfinished ? complete_io(vcpu, runnable) : 0;
}

/* Returns when all vCPUs of the shell have called this. Sleeps only after awake_ns (AWAKE_NS). */
static void meet(struct shell *sh, atomic_uint *met, uint64_t awake_ns)
{
	unsigned n = atomic_fetch_add(met, 1) + 1;
	uint64_t asleep;

	if (n == sh->machine->cpus) {
		futex_wake_all(met);
		return;
	}
	asleep = now_ns() + awake_ns;
	while (awake_ns && (n = atomic_load(met)) < sh->machine->cpus && now_ns() < asleep)
		sched_yield();
	while (n < sh->machine->cpus) {
		futex_wait(met, n, 0);
		n = atomic_load(met);
	}
}

static int save(struct vcpu *vcpu)
{
	struct shell *sh = vcpu->shell;
	const struct kvm_host *host = &sh->machine->host;

	return vcpu_save(host, vcpu->fd, vcpu->run, &sh->save->vcpu[vcpu->index]);
}

static int load(struct vcpu *vcpu)
{
	struct shell *sh = vcpu->shell;

	return vcpu_load(&sh->machine->host, vcpu->fd, vcpu->run, &sh->load->vcpu[vcpu->index],
		sh->has ? &sh->has->vcpu[vcpu->index] : NULL);
}

/* Called when this vCPU has left the guest. `unfinished`: the result of complete_io(). */
static void finish_stop(struct vcpu *vcpu, int unfinished)
{
	struct shell *sh = vcpu->shell;

	note_error(sh, unfinished);
	if (unfinished)
		atomic_store(&sh->broken, true);
	/* No vCPU is saved while another one runs: that one could still send an interrupt, which
	 * would be lost. */
	meet(sh, &sh->stopped, 0);
	if (!sh->save)
		return;
	note_error(sh, save(vcpu));
	if (atomic_fetch_add(&sh->saved, 1) + 1 < sh->machine->cpus)
		return;
	note_error(sh, machine_save(&sh->machine->host, sh->vm_fd, sh->save));
	if (sh->then && !atomic_load(&sh->error))
		sh->then(sh->then_arg);
}

/* The loaded state will not run. Its registers must not stay in kvm_run for the shell's next VM. */
static void wait_unloaded(struct vcpu *vcpu)
{
	struct shell *sh = vcpu->shell;

	vcpu->run->kvm_dirty_regs = 0;
	while (!atomic_load(&sh->stop))
		futex_wait(&sh->stop, 0, 0);
}

/*
 * Loads (if `loads`) and runs until the vCPU is stopped. No vCPU enters the guest before all have
 * been loaded. If the state of a vCPU or of the machine could not be loaded, none enters: the guest
 * must not run a single instruction on a machine with another state.
 */
static void run(struct vcpu *vcpu, bool loads)
{
	struct shell *sh = vcpu->shell;
	int r = 0, unfinished = 0;

	if (loads) {
		if (!atomic_load(&sh->error))
			note_error(sh, load(vcpu));
		meet(sh, &sh->loaded, AWAKE_NS); /* this may be part of a parent's pause */
		r = atomic_load(&sh->error);
	}
	/* immediate_exit is cleared when a run begins, not when it ends: the thread that stops this
	 * vCPU may set it just after the vCPU has stopped. */
	__atomic_store_n(&vcpu->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
	acknowledge(sh, r);
	await_release(sh);
	if (!r)
		unfinished = run_until_stopped(vcpu);
	else
		wait_unloaded(vcpu);
	finish_stop(vcpu, unfinished);
}

/*
 * The first KVM_RUN of a vCPU allocates memory, and the first entry into the guest more, for page
 * tables (mmu_topup_memory_caches() in arch/x86/kvm/mmu/mmu.c). This is done now, when no VM waits
 * for it. If a signal is pending that the vCPU does not block, KVM leaves between this preparation
 * and the first instruction (kvm_vcpu_exit_request() in x86.c).
 */
static void warm_up(struct vcpu *vcpu)
{
	/* struct kvm_signal_mask: the mask's length, and the mask, which blocks no signal. */
	const uint32_t none[] = { sizeof(uint64_t), 0, 0 };
	sigset_t kick;

	sigemptyset(&kick);
	sigaddset(&kick, KICK_SIGNAL);
	pthread_sigmask(SIG_BLOCK, &kick, NULL);
	pthread_kill(pthread_self(), KICK_SIGNAL);
	if (!ioctl(vcpu->fd, KVM_SET_SIGNAL_MASK, none)) {
		vcpu->run->immediate_exit = 0;
		ioctl(vcpu->fd, KVM_RUN, 0);
		ioctl(vcpu->fd, KVM_SET_SIGNAL_MASK, NULL);
	}
	pthread_sigmask(SIG_UNBLOCK, &kick, NULL);
	/* Completes an exit, should there be one. */
	vcpu_flush(vcpu->fd, vcpu->run);
}

void *vcpu_thread(void *arg)
{
	struct vcpu *vcpu = arg;
	struct shell *sh = vcpu->shell;

	atomic_store(&vcpu->tid, gettid());
	vcpu->hurry.stop = &sh->stop;
	hurry_vcpu = &vcpu->hurry;
	hurry_self(true);
	warm_up(vcpu);
	for (;;) {
		unsigned cmd = atomic_load(&vcpu->cmd);
		int r = 0;

		if (!cmd) {
			futex_wait(&vcpu->cmd, 0, 0);
			continue;
		}
		atomic_store(&vcpu->cmd, 0);
		if (cmd & VCPU_QUIT)
			break;
		if (cmd & VCPU_RUN) {
			run(vcpu, cmd & VCPU_LOAD);
		} else if (cmd & VCPU_LOAD) {
			r = load(vcpu);
			if (!r)
				r = vcpu_flush(vcpu->fd, vcpu->run);
		}
		if (cmd & VCPU_SAVE)
			r = save(vcpu);
		acknowledge(sh, r);
	}
	hurry_self(false); /* the end of a thread is work, and of no hurry */
	return NULL;
}

/* ---- commands ---- */

/* The states that lead to `to`: the table in shell.h. */
static bool leads(enum shell_state from, enum shell_state to)
{
	switch (to) {
	case SHELL_IDLE:
		return from == SHELL_STOPPING || from == SHELL_COMMANDED;
	case SHELL_STARTING:
	case SHELL_COMMANDED:
		return from == SHELL_IDLE;
	case SHELL_RUNNING:
		return from == SHELL_STARTING;
	case SHELL_STOPPING:
		return from == SHELL_RUNNING;
	}
	return false;
}

/* Moves the shell to another state. All vCPUs have obeyed the last command. */
static void move(struct shell *sh, enum shell_state to)
{
	bool legal = leads(sh->state, to) && !atomic_load(&sh->pending);

	assert(legal);
	(void)legal;
	sh->state = to;
}

/* Called when the vCPUs, which are idle, no longer have the state that was preloaded. */
static void forget_preload(struct shell *sh)
{
	machine_state_put(sh->has);
	sh->has = NULL;
}

/* `error`: an earlier failure (-errno). Then nothing is loaded or run. */
static void command(struct shell *sh, unsigned cmd, int error)
{
	atomic_store(&sh->pending, sh->machine->cpus);
	atomic_store(&sh->error, error);
	for (unsigned i = 0; i < sh->machine->cpus; i++) {
		atomic_store(&sh->vcpu[i].cmd, cmd);
		futex_wake_all(&sh->vcpu[i].cmd);
	}
}

int shell_await(struct shell *sh)
{
	uint64_t asleep = now_ns() + AWAKE_NS;
	unsigned left;

	lock_may_wait_for(WAIT_VCPUS);
	while (atomic_load(&sh->pending) && now_ns() < asleep)
		sched_yield();
	while ((left = atomic_load(&sh->pending)))
		futex_wait(&sh->pending, left, 0);
	move(sh, sh->state == SHELL_STARTING ? SHELL_RUNNING : SHELL_IDLE);
	return atomic_load(&sh->error);
}

void shell_release(struct shell *sh)
{
	if (atomic_exchange(&sh->held, SHELL_FREE) != SHELL_FREE)
		futex_wake_all(&sh->held);
}

void shell_start_async(
	struct shell *sh, void *owner, const struct machine_state *state, enum shell_hold hold)
{
	int r = 0;

	move(sh, SHELL_STARTING);
	atomic_store(&sh->held, hold);
	sh->owner = owner;
	sh->load = state;
	sh->save = NULL;
	atomic_store(&sh->stop, 0);
	atomic_store(&sh->stopped, 0);
	atomic_store(&sh->saved, 0);
	atomic_store(&sh->loaded, 0);
	atomic_store(&sh->broken, false);
	/* Before the vCPUs: when KVM loads a LAPIC, it reads the I/O APIC's routes. */
	if (state)
		r = machine_load(&sh->machine->host, sh->vm_fd, state);
	command(sh, VCPU_RUN | (state ? VCPU_LOAD : 0u), r);
}

int shell_start(struct shell *sh, void *owner, const struct machine_state *state)
{
	shell_start_async(sh, owner, state, SHELL_FREE);
	return shell_await(sh);
}

int shell_load(struct shell *sh, const struct machine_state *state)
{
	int r, e;

	move(sh, SHELL_COMMANDED);
	r = machine_load(&sh->machine->host, sh->vm_fd, state);
	sh->load = state;
	command(sh, VCPU_LOAD, 0);
	e = shell_await(sh);
	r = r ? r : e;
	if (!r && atomic_load(&sh->view->poisoned)) /* the load could not read guest memory */
		r = -ENOMEM;
	forget_preload(sh);
	return r;
}

int shell_stop_then(
	struct shell *sh, struct machine_state *state, void (*then)(void *arg), void *arg)
{
	move(sh, SHELL_STOPPING);
	forget_preload(sh);
	sh->save = state;
	sh->then = then;
	sh->then_arg = arg;
	atomic_store(&sh->error, 0);
	atomic_store(&sh->pending, sh->machine->cpus);
	atomic_store(&sh->stop, 1);
	futex_wake_all(&sh->stop);
	shell_release(sh);
	for (unsigned i = 0; i < sh->machine->cpus; i++) {
		/* Before the signal: a signal that comes outside KVM_RUN must not be missed. */
		__atomic_store_n(&sh->vcpu[i].run->immediate_exit, 1, __ATOMIC_SEQ_CST);
		pthread_kill(sh->vcpu[i].thread, KICK_SIGNAL);
	}
	/* Real-time: a vCPU thread that waits for a CPU gets one at once. */
	for (unsigned i = 0; i < sh->machine->cpus; i++)
		hurry_thread(atomic_load(&sh->vcpu[i].tid), &sh->vcpu[i].hurry);
	return shell_await(sh);
}

void shell_interrupt(struct shell *sh)
{
	for (unsigned i = 0; i < sh->machine->cpus; i++) {
		struct vcpu *vcpu = &sh->vcpu[i];

		if (!vcpu->has_thread)
			continue;
		/* As in shell_stop_then(). The flag stays set: the vCPU must not run again before
		 * the next command, which clears it. */
		__atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
		pthread_kill(vcpu->thread, KICK_SIGNAL);
	}
}

int shell_stop(struct shell *sh, struct machine_state *state)
{
	return shell_stop_then(sh, state, NULL, NULL);
}

int shell_save(struct shell *sh, struct machine_state *state)
{
	int r;

	move(sh, SHELL_COMMANDED);
	sh->save = state;
	command(sh, VCPU_SAVE, 0);
	r = shell_await(sh);
	return r ? r : machine_save(&sh->machine->host, sh->vm_fd, state);
}

void shell_rehearse(struct shell *sh, struct machine_state *scratch)
{
	const struct kvm_host *host = &sh->machine->host;

	assert(sh->state == SHELL_IDLE);
	/* One vCPU is enough: all vCPUs use nearly the same code and data. */
	pthread_kill(pthread_self(), KICK_SIGNAL);
	hurry_thread(
		atomic_load(&sh->vcpu[0].tid), &sh->vcpu[0].hurry); /* it is real-time already */
	if (!vcpu_save_idle(host, sh->vcpu[0].fd, &scratch->vcpu[0]) &&
		!machine_save(host, sh->vm_fd, scratch))
		machine_load(host, sh->vm_fd, scratch);
}

void shell_preload(struct shell *sh, struct machine_state *state)
{
	assert(sh->state == SHELL_IDLE);
	forget_preload(sh);
	/* Done on this thread: only KVM_RUN must always be called by the same thread. */
	for (unsigned i = 0; i < sh->machine->cpus; i++)
		if (vcpu_preload(&sh->machine->host, sh->vcpu[i].fd, &state->vcpu[i]))
			return;
	sh->has = machine_state_get(state);
}

void vcpu_quit(struct vcpu *vcpu)
{
	atomic_store(&vcpu->cmd, VCPU_QUIT);
	futex_wake_all(&vcpu->cmd);
}

static void ignore_signal(int sig)
{
}

int shell_signal_init(void)
{
	struct sigaction sa = { .sa_handler =
					ignore_signal }; /* no SA_RESTART: must interrupt calls */

	return sigaction(KICK_SIGNAL, &sa, NULL) < 0 ? -errno : 0;
}
