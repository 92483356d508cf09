/* SPDX-License-Identifier: Apache-2.0 */
/* Inside libramet: families, VMs and how their parts hang together. */
#ifndef RAMET_VMM_VM_VM_H
#define RAMET_VMM_VM_VM_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/queue.h>

#include "include/ramet/abi.h"
#include "include/ramet/ramet.h"
#include "vmm/devices/device.h"
#include "vmm/devices/doorbell.h"
#include "vmm/fork/generation.h"
#include "vmm/boot/machine.h"
#include "vmm/memory/memory.h"
#include "vmm/kvm/shell.h"

/* Exit statuses that no guest can give. */
#define VM_EXIT_FAILED	0x100
#define VM_EXIT_FAILING 0x101 /* the same, but `failure` is still being written */

/* The places of a VM's devices in its set. */
enum { DEVICE_SERIAL, DEVICE_DOORBELL, DEVICE_LINUX };

struct ramet_vm {
	struct port port; /* what its devices know of it */
	struct ramet_family *family;
	uint64_t id;
	char name[RAMET_NAME_MAX];
	atomic_uint refs;

	/* Lineage; guarded by the family's lock. */
	bool linked;
	uint64_t parent_id;
	struct ramet_vm *parent, *first_child, *last_child, *sibling;

	pthread_mutex_t op; /* one operation (fork, pause, resume, reset, stop) at a time */
	_Atomic enum ramet_state state;
	char failure[RAMET_FAILURE_MAX]; /* to be read when exit_status is VM_EXIT_FAILED */
	bool ran;			 /* it may differ from its birth generation */
	struct shell *_Atomic shell;	 /* changed under op; the fault threads look at it, too */
	struct generation *birth;	 /* what it runs from */
	struct generation *home;	 /* what a reset goes back to; NULL: it booted */
	struct device_set devices;

	/* This birth, as the doorbell shows it. */
	_Atomic uint64_t births;
	uint8_t genid[16];
	_Atomic uint64_t born_ns;
	_Atomic uint64_t ready_ns;

	/* What the guest told. */
	_Atomic uint64_t heartbeats;
	atomic_uint counter, phase, report;
	_Atomic uint64_t report_gpa;
	atomic_int exit_status;

	/* Waiting for any of it: a futex that changes when somebody waits and something happens. */
	atomic_uint events, waiters;
	STAILQ_ENTRY(ramet_vm) next_ended; /* in the reaper's queue */
};

struct ramet_family {
	int stage;		 /* of setting it up, see family.c */
	struct ramet_config cfg; /* strings are ours */
	struct ram_layout ram;
	bool virtio_console; /* its guests' console, for input */
	struct machine machine;
	struct memory memory;

	/* Held for reading by each operation on a VM, taken before its op; for writing by the
	 * checker, which so sees none half done. */
	pthread_rwlock_t operations;
	pthread_mutex_t lock; /* guards the lineage: root, next_id, and those fields of each VM */
	struct ramet_vm *root;
	uint64_t next_id;
	_Atomic uint64_t forks, resets;
	_Atomic uint64_t resolved, taken_back; /* spans */

	/* Shells ready to be used. */
	pthread_mutex_t shells_lock;
	pthread_cond_t shells_cond;
	struct shell *shells, *used_shells; /* used: to be blanked, by the maker */
	struct machine_state *pattern;	    /* what they are preloaded with, or NULL */
	unsigned n_shells, want_shells, n_used;
	unsigned n_taken;		   /* ever */
	unsigned n_returned, least_shells; /* since the maker looked whether there are too many */
	bool shells_quit;
	pthread_t maker;

	struct worker *worker;
	struct reaper *reaper;
	pthread_mutex_t generations_lock; /* guards the next two */
	struct generation *all_generations;
	uint64_t n_generations;
	struct fault_threads *faults;
	struct guard *guard;
};

/* family.c: references to all VMs, parents first, so that they can be looked at without the lock.
 * To be freed. */
struct ramet_vm **family_snapshot(struct ramet_family *f, unsigned *n);

/* shells.c */
int shells_start(struct ramet_family *f);
void shells_stop(struct ramet_family *f); /* frees them all */
int shells_take(struct ramet_family *f, struct shell **out);
/* Has others made for those that were taken: not while a VM stands still, which making one, with
 * its interrupts to all CPUs, would prolong. */
void shells_make(struct ramet_family *f);
/* States that are to be loaded from now on are probably like this one. */
void shells_pattern(struct ramet_family *f, struct machine_state *state);
/* Gives back a shell whose vCPUs are idle. Its view's pages are dropped in the background. */
void shells_give(struct ramet_family *f, struct shell *sh);

/* port.c */
extern const struct port_ops vm_port_ops;
/* One access by a vCPU to the VM's devices. */
void vm_io(struct ramet_vm *vm, struct vcpu *vcpu, enum device_space space, uint64_t addr,
	bool write, void *data, unsigned size);

/* vm.c */
int vm_new(struct ramet_family *f, struct ramet_vm *parent, struct ramet_vm **out);
void vm_link(struct ramet_vm *vm);
void vm_new_birth(struct ramet_vm *vm, uint64_t born_ns, bool new_identity);
/* Its guest has told, by now, what g's had when it was frozen. No vCPU runs. */
void vm_recall(struct ramet_vm *vm, const struct generation *g);
/*
 * Operations. lock() holds off the family's checker, and other operations on this VM, until
 * unlock(). lock_alive() does not when the VM has stopped or failed: then -ESRCH and a line about
 * it.
 */
void vm_lock(struct ramet_vm *vm);
int vm_lock_alive(struct ramet_vm *vm, const char *verb, struct ramet_err *err);
void vm_unlock(struct ramet_vm *vm);
/* Its vCPUs have been stopped and its devices quiesced, for something that is not to be: it runs on
 * as it was. op is held. */
void vm_run_on(struct ramet_vm *vm);
/* Gives back all it holds; its vCPUs are idle and op is held. */
void vm_release(struct ramet_vm *vm);
/* For one that was never linked: stops and forgets it. */
void vm_discard(struct ramet_vm *vm);

/* events.c */
void vm_event(struct ramet_vm *vm);
/* The VM's guest has ended it. The calling vCPU does not run again. */
void vm_exit(struct ramet_vm *vm, int status);
void vm_fail(struct ramet_vm *vm, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* worker.c: what need not be done while somebody waits for it. */
int worker_start(struct ramet_family *f);
void worker_stop(struct ramet_family *f);
/* Settles g some time; nothing to do for one that is freed before. Takes the place that has been
 * reserved for it. */
void worker_settle(struct ramet_family *f, struct generation *g);
void worker_free(struct ramet_family *f, struct generation *g);
/* Memory has been given back: what could not be settled for want of it is worth another attempt. */
void worker_retry(struct ramet_family *f);
/* Reserves a place among the unsettled generations, for one that worker_settle() gets or
 * worker_unreserve() gives up. False: there are as many as reads can go through without getting
 * slow. */
bool worker_reserve(struct ramet_family *f);
void worker_unreserve(struct ramet_family *f);
/* Waits until there is a place. The caller holds no lock of a VM. -ENOMEM: no generation can be
 * settled now. */
int worker_await_room(struct ramet_family *f);
/* Waits until it has nothing left to do. -ENOMEM: what is left cannot be done now. */
int worker_drain(struct ramet_family *f);

/* reaper.c */
int reaper_start(struct ramet_family *f);
void reaper_stop(struct ramet_family *f); /* after it has stopped those that wait for it */
void reaper_free(struct ramet_family *f); /* after worker_stop(): the worker asks reaper_idle() */
/* Stops a VM that its guest has ended, or that has failed; takes over a reference. Any lock may be
 * held. */
void reaper_ended(struct ramet_vm *vm);
/* Whether no VM waits for it; and how many it has ever been given. */
bool reaper_idle(const struct ramet_family *f, unsigned *queued);

/* guard.c: sees to it that the kernel has no reason to kill the family for want of memory. */
int guard_start(struct ramet_family *f);
void guard_stop(struct ramet_family *f);
/* Memory is so short that nothing new may begin. */
bool guard_tight(const struct ramet_family *f);
/* Fills in what it knows: the headroom. */
void guard_stat(struct ramet_family *f, struct ramet_family_stat *st);
/* When memory is short: ": the host has 3 MiB of its 128 MiB left"; else "". */
#define GUARD_HINT 160
const char *guard_hint(struct ramet_family *f, char buf[GUARD_HINT]);

/* fault.c: fills the spans that vCPUs, and others, touch. */
int faults_start(struct ramet_family *f);
void faults_stop(struct ramet_family *f);

#endif
