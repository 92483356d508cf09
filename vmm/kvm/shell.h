/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shells: KVM VMs made ahead, with vCPUs and their threads, interrupt controllers and memslots over
 * a view. Making one costs a millisecond and more, loading a machine into one a tenth of that; so a
 * family keeps some ready and takes back those whose VM has gone.
 *
 * A vCPU's thread belongs to its shell, since KVM wants one thread per vCPU (moving costs an RCU
 * grace period on older kernels). It waits for a command, loads, runs and saves as told.
 *
 * One thread at a time commands a shell, and it alone moves `state`: the one that holds `op` of the
 * VM whose shell it is, or that has taken the shell from the pool, or, in the pause of a fork, the
 * vCPU thread that runs `then` for the holder of `op`, who waits for it meanwhile.
 *
 *   state       moved by                          what the vCPUs do, and what may be called
 *   IDLE        shell_new(), shell_await()        wait for `cmd`: start, load, save, rehearse,
 *                                                 preload, give back, free
 *   STARTING    IDLE: shell_start_async()         load, if told to: await
 *   RUNNING     STARTING: shell_await()           run the guest, or wait for `stop` if their state
 *                                                 could not be loaded: stop
 *   STOPPING    RUNNING: shell_stop_then()        leave the guest, save, run `then`: await, which
 *                                                 leads to IDLE
 *   COMMANDED   IDLE: shell_load(), shell_save()  load or save: await, which leads to IDLE
 *
 *   word        set by the commander              changed by the vCPUs' threads
 *   cmd         bits, with each command but stop  0: before the vCPU obeys
 *   pending     number of vCPUs: each command     one less: the vCPU has obeyed; at 0 await returns
 *   error       0, or what the commander met      the first -errno
 *   stop        0: start; 1: stop                 only read
 *   loaded      0: start                          one more: loaded; none enters the guest before
 * all stopped     0: start                          one more: has left; none is saved before all
 *   saved       0: start                          one more: saved; the last one saves the machine,
 *                                                 and calls `then` if there was no error
 *
 * shell_interrupt() may be called by any thread, and moves nothing.
 */
#ifndef RAMET_VMM_KVM_SHELL_H
#define RAMET_VMM_KVM_SHELL_H

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

#include "include/ramet/gpa.h"
#include "vmm/base/lock.h"
#include "vmm/kvm/state.h"
#include "vmm/memory/view.h"

struct shell;
struct machine;
struct vcpu;

/* What a vCPU's thread asks of the owner of its shell. All calls come from that thread. */
struct vcpu_ops {
	/* Whether the vCPU may enter the guest at all: called once, when a run begins. */
	bool (*may_begin)(struct vcpu *vcpu);
	/* Whether it may enter the guest again: not when the VM has ended or failed. */
	bool (*wanted)(const struct vcpu *vcpu);
	/* Handles one exit. False: the vCPU must not enter the guest again until it is stopped. */
	bool (*exit)(struct vcpu *vcpu);
	/* KVM_RUN failed with -errno. */
	void (*failed)(struct vcpu *vcpu, int error);
};

struct vcpu {
	struct shell *shell;
	unsigned index;
	int fd;
	struct kvm_run *run;
	pthread_t thread;
	bool has_thread;
	_Atomic pid_t tid;
	atomic_uint cmd; /* futex: VCPU_* bits to do; 0: idle */
};

enum shell_state { SHELL_IDLE, SHELL_STARTING, SHELL_RUNNING, SHELL_STOPPING, SHELL_COMMANDED };

struct shell {
	const struct machine *machine;
	enum shell_state state; /* see above */
	int vm_fd;
	struct view *view;
	void *_Atomic owner;		  /* whose vCPUs these are: a VM; NULL: nobody's yet */
	const struct machine_state *load; /* what to load before running */
	struct machine_state *save;	  /* where to save after stopping */
	struct machine_state *has;	  /* what an idle shell was preloaded with, or NULL */
	void (*then)(void *arg);	  /* see shell_stop_then() */
	void *then_arg;
	atomic_uint loaded;	  /* futex: vCPUs that have been loaded, of those that are to run */
	atomic_uint stop;	  /* futex: 1 asks vCPUs to leave the guest */
	atomic_uint stopped;	  /* futex: vCPUs that have left it */
	atomic_uint saved;	  /* vCPUs that have been saved */
	atomic_uint pending;	  /* futex: vCPUs that have not acknowledged the command */
	atomic_int error;	  /* first -errno of a command */
	_Atomic uint64_t done_ns; /* when the last vCPU acknowledged it */
	atomic_bool broken; /* a vCPU holds half an instruction: no other VM may have this shell */
	bool used;	    /* it has run another VM: KVM may still fetch pages for that one */
	struct shell *next; /* in the family's pool */
	struct vcpu vcpu[RAMET_CPUS_MAX];
};

/* What all shells of a family are made from. */
struct machine {
	const struct vcpu_ops *vcpu_ops;
	struct kvm_host host;
	struct view_arena arena;
	unsigned cpus, n_slots;
	bool pit;
	struct {
		gpa_t gpa;
		ram_off_t off;
		uint64_t len;
	} slot[2];
	bool msrs_probed;
	struct lock lock; /* guards msrs_probed and host.msr while it is being probed */
};

int shell_new(struct machine *machine, struct shell **out);
/* The vCPUs must be idle. */
void shell_free(struct shell *sh);

/* Loads ahead, into idle vCPUs, what it can of a state like those that are to be loaded, so that
 * only the difference is left to be loaded then. Failing is fine. */
void shell_preload(struct shell *sh, struct machine_state *state);

/*
 * Commands. The caller is the only one who commands this shell. start() loads `state` if given,
 * then lets the vCPUs run for `owner`; stop() brings them out of the guest at an instruction
 * boundary, with I/O completed, and saves into `state` if given. Both wait until done;
 * start_async() does not, await() does it later. save() is for vCPUs that are stopped already.
 *
 * They return 0 or -errno. When start() could not load all of `state`, no vCPU has entered the
 * guest, and stop() still has to follow. When stop() fails the vCPUs are stopped all the same; if
 * the shell is `broken` then, a vCPU is in the middle of an instruction, which only start() can
 * finish.
 */
void shell_start_async(struct shell *sh, void *owner, const struct machine_state *state);
int shell_await(struct shell *sh);
/* Whether shell_await() would return at once. */
static inline bool shell_has_answered(const struct shell *sh)
{
	return !atomic_load(&sh->pending);
}
int shell_start(struct shell *sh, void *owner, const struct machine_state *state);
int shell_load(struct shell *sh, const struct machine_state *state);
int shell_stop(struct shell *sh, struct machine_state *state);
/* Calls then(arg) when all is saved, before it returns: on the thread of the vCPU that was saved
 * last, since to wake another one takes as long as saving half a vCPU. Not called on failure. */
int shell_stop_then(
	struct shell *sh, struct machine_state *state, void (*then)(void *arg), void *arg);
int shell_save(struct shell *sh, struct machine_state *state);

/*
 * Does with an idle shell much of what a pause is about to do with a running one: stop, save, load.
 * A guest that has gone through much memory leaves nothing of the code and the data for that in the
 * caches; better to wait for them before the pause than in it. The shell stays as it is; what is
 * left in `scratch` is of no use. Failing is fine.
 */
void shell_rehearse(struct shell *sh, struct machine_state *scratch);

/* Makes the vCPUs of a VM that has failed leave the guest. They do not enter it again: not for one
 * instruction, even if they are just about to. */
void shell_interrupt(struct shell *sh);

/* The calling vCPU's thread becomes ordinary, with slices of that length (0: the kernel's default),
 * unless it is being stopped. */
void vcpu_ordinary(struct vcpu *vcpu, uint64_t slice_ns);

/* Installs the (empty) handler of the signal that interrupts KVM_RUN. */
int shell_signal_init(void);

#endif
