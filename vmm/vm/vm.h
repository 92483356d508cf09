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
#include "vmm/fork/fault.h"
#include "vmm/fork/generation.h"
#include "vmm/fork/settler.h"
#include "vmm/boot/boot.h"
#include "vmm/memory/budget.h"
#include "vmm/memory/memory.h"
#include "vmm/kvm/shell-pool.h"

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

	struct budget budget; /* set by the guard */
	struct shell_pool shells;
	struct generations generations;
	struct settler settler;
	struct reaper *reaper;
	struct faults faults;
	struct guard *guard;
};

/* launch.c: makes vm, which is new, ready to run. 0, or -errno with a line about it. */
int family_boot(struct ramet_family *f, struct ramet_vm *vm, struct ramet_err *err);

/* vcpu.c: what a vCPU does between two stays in the guest. */
extern const struct vcpu_ops vm_vcpu_ops;

/* port.c */
extern const struct port_ops vm_port_ops;
/* One access by a vCPU to the VM's devices. */
void vm_io(struct ramet_vm *vm, struct vcpu *vcpu, enum device_space space, uint64_t addr,
	bool write, void *data, unsigned size);

/* vm.c */
int vm_new(struct ramet_family *f, struct ramet_vm *parent, struct ramet_vm **out);
/* Why it has failed, or "". */
const char *vm_failure(const struct ramet_vm *vm);
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
/* Its memory could not be provided: see struct view_source. */
void vm_memory_lost(struct view *view);
/* The VM's guest has ended it. The calling vCPU does not run again. */
void vm_exit(struct ramet_vm *vm, int status);
void vm_fail(struct ramet_vm *vm, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* reaper.c */
int reaper_start(struct ramet_family *f);
void reaper_stop(struct ramet_family *f); /* after it has stopped those that wait for it */
void reaper_free(struct ramet_family *f); /* after settler_stop(): the settler asks reaper_idle() */
/* Stops a VM that its guest has ended, or that has failed; takes over a reference. Any lock may be
 * held. */
void reaper_ended(struct ramet_vm *vm);
/* Whether no VM waits for it; and how many it has ever been given. */
bool reaper_idle(void *family, unsigned *queued);

/* guard.c: sees to it that the kernel has no reason to kill the family for want of memory. */
int guard_start(struct ramet_family *f);
void guard_stop(struct ramet_family *f);

#endif
