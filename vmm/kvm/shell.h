/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shells: KVM VMs that are made ahead, with vCPUs and their threads, interrupt controllers, and
 * memslots over a view. Making a shell takes a millisecond or more; loading a machine into it takes
 * a tenth of that. So a family keeps some shells ready, and reuses the shells of VMs that are gone.
 *
 * A vCPU's thread belongs to its shell, since KVM expects one thread for each vCPU (on older
 * kernels a change costs an RCU grace period). The thread waits for commands to load, run and save.
 *
 * One thread at a time commands a shell, and only this thread moves `state`. It is the thread that
 * holds `op` of the shell's VM, or one that has taken the shell from the pool. In the pause of a
 * fork it is the vCPU thread that runs `then`, while the holder of `op` waits for that thread.
 *
 *   state       moved by                          what the vCPUs do, and what may be called
 *   IDLE        shell_new(), shell_await()        wait for `cmd`: start, load, save, rehearse,
 *                                                 preload, give back, free
 *   STARTING    IDLE: shell_start_async()         load, if told to: await
 *   RUNNING     STARTING: shell_await()           run the guest; or, if their state could not be
 *                                                 loaded, wait for `stop`: stop
 *   STOPPING    RUNNING: shell_stop_then()        leave the guest, save, run `then`: await, which
 *                                                 leads to IDLE
 *   COMMANDED   IDLE: shell_load(), shell_save()  load or save: await, which leads to IDLE
 *
 *   word        set by the commander              changed by the vCPUs' threads
 *   cmd         bits, with each command but stop  0: before the vCPU obeys
 *   pending     number of vCPUs: each command     one less: the vCPU has obeyed; at 0 await returns
 *   error       0, or the commander's own -errno  the first -errno
 *   stop        0: start; 1: stop                 only read
 *   held        start, as told; FREE: release     only read
 *   loaded      0: start                          one more: loaded. Waits for all, then enters
 *   stopped     0: start                          one more: has left. Waits for all, then saves
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
#include "vmm/base/priority.h"
#include "vmm/kvm/state.h"
#include "vmm/memory/view.h"

struct shell;
struct machine;
struct vcpu;

/* Functions of the owner of a shell. All calls come from a vCPU's thread. */
struct vcpu_ops {
	/* May the vCPU enter the guest at all? Called once, when a run begins. */
	bool (*may_begin)(struct vcpu *vcpu);
	/* May the vCPU enter the guest again? Not if the VM has ended or failed. */
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
	struct hurry_vcpu hurry;
	atomic_uint cmd; /* futex: VCPU_* bits to do; 0: idle */
};

enum shell_state { SHELL_IDLE, SHELL_STARTING, SHELL_RUNNING, SHELL_STOPPING, SHELL_COMMANDED };

/* Whether vCPUs that are started wait for shell_release() when they have been loaded. SOON: it
 * comes within some microseconds, so the vCPUs yield for a while before they sleep. */
enum shell_hold { SHELL_FREE, SHELL_SOON, SHELL_HELD };

struct shell {
	const struct machine *machine;
	enum shell_state state; /* see above */
	int vm_fd;
	struct view *view;
	void *_Atomic owner;		  /* the VM that owns the vCPUs; NULL: none yet */
	const struct machine_state *load; /* state to load before running */
	struct machine_state *save;	  /* receives the state after stopping */
	struct machine_state *has;	  /* state that an idle shell was preloaded with, or NULL */
	void (*then)(void *arg);	  /* see shell_stop_then() */
	void *then_arg;
	atomic_uint held;	  /* futex: enum shell_hold */
	atomic_uint loaded;	  /* futex: number of vCPUs that are loaded, before a run */
	atomic_uint stop;	  /* futex: 1 tells vCPUs to leave the guest */
	atomic_uint stopped;	  /* futex: number of vCPUs that have left the guest */
	atomic_uint saved;	  /* number of vCPUs that have been saved */
	atomic_uint pending;	  /* futex: number of vCPUs that have not finished the command */
	atomic_int error;	  /* first -errno of a command */
	_Atomic uint64_t done_ns; /* when the last vCPU finished the command */
	atomic_bool broken; /* a vCPU is in the middle of an instruction: do not reuse this shell */
	bool used;	    /* has run another VM: KVM may still fetch pages for that VM */
	struct shell *next; /* in the family's pool */
	struct vcpu vcpu[RAMET_CPUS_MAX];
};

/* The data from which all shells of a family are made. */
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

/* Loads as much as possible of a state into idle vCPUs. If a similar state is loaded later, only
 * the differences must be loaded then. A failure does no harm. */
void shell_preload(struct shell *sh, struct machine_state *state);

/*
 * Commands. Only one thread at a time may command a shell. start() loads `state` if it is given,
 * then lets the vCPUs run for `owner`. stop() makes the vCPUs leave the guest at an instruction
 * boundary, with I/O completed, and saves into `state` if it is given. Both wait until this is
 * done; start_async() does not wait, await() waits later. save() is for vCPUs that are stopped
 * already. If start_async() is told to hold the vCPUs, they load, which completes the command, but
 * enter the guest only after release(); stop() releases them, too.
 *
 * They return 0 or -errno. If start() could not load all of `state`, no vCPU has entered the guest,
 * and stop() must still be called. If stop() fails, the vCPUs are stopped nevertheless. If the
 * shell is then `broken`, a vCPU is in the middle of an instruction, which only start() can
 * complete.
 */
void shell_start_async(
	struct shell *sh, void *owner, const struct machine_state *state, enum shell_hold hold);
/* Lets a held shell go. Any number of times, by the thread that commands the shell. */
void shell_release(struct shell *sh);
int shell_await(struct shell *sh);
int shell_start(struct shell *sh, void *owner, const struct machine_state *state);
int shell_load(struct shell *sh, const struct machine_state *state);
int shell_stop(struct shell *sh, struct machine_state *state);
/* Like stop(), but calls then(arg) when all is saved, before it returns. The call is made on the
 * thread of the vCPU that was saved last: to wake another thread would take as long as to save half
 * a vCPU. On failure then() is not called. */
int shell_stop_then(
	struct shell *sh, struct machine_state *state, void (*then)(void *arg), void *arg);
int shell_save(struct shell *sh, struct machine_state *state);

/*
 * Does with an idle shell much of what a pause does with a running one: stop, save, load. A guest
 * that has gone through much memory leaves none of the code and data for this in the caches. The
 * rehearsal loads them before the pause. The shell does not change; the contents of `scratch` are
 * useless afterwards. A failure does no harm.
 */
void shell_rehearse(struct shell *sh, struct machine_state *scratch);

/* Makes the vCPUs of a failed VM leave the guest. They do not execute one more instruction, even if
 * they are just about to enter the guest. */
void shell_interrupt(struct shell *sh);

/* Gives the calling thread, a vCPU's, the ordinary priority, with time slices of slice_ns (0: the
 * kernel's default). Does nothing if the vCPU is being stopped. */
void vcpu_ordinary(struct vcpu *vcpu, uint64_t slice_ns);

/* The main function of a vCPU's thread; the argument is the struct vcpu. The thread obeys commands
 * until vcpu_quit(). */
void *vcpu_thread(void *arg);
void vcpu_quit(struct vcpu *vcpu);

/* Installs the (empty) handler of the signal that interrupts KVM_RUN. */
int shell_signal_init(void);

#endif
