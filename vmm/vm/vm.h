/* SPDX-License-Identifier: Apache-2.0 */
/* Internal structures of libramet: families and VMs. */
#ifndef RAMET_VMM_VM_VM_H
#define RAMET_VMM_VM_VM_H

#include <stdatomic.h>
#include <sys/queue.h>

#include "include/ramet/abi.h"
#include "include/ramet/ramet.h"
#include "vmm/base/lock.h"
#include "vmm/base/newborns.h"
#include "vmm/boot/boot.h"
#include "vmm/devices/device.h"
#include "vmm/devices/doorbell.h"
#include "vmm/fork/fault.h"
#include "vmm/fork/generation.h"
#include "vmm/fork/settler.h"
#include "vmm/kvm/shell-pool.h"
#include "vmm/memory/budget.h"
#include "vmm/memory/memory.h"

/* Exit statuses beyond those that a guest can set. */
#define VM_EXIT_FAILED	0x100
#define VM_EXIT_FAILING 0x101 /* the same, but `failure` is still being written */

/* The places of a VM's devices in its set. */
enum { DEVICE_SERIAL, DEVICE_DOORBELL, DEVICE_LINUX };

/* The memory of a VM, as in struct ramet_stat. */
struct vm_count {
	uint64_t private_bytes, shared_bytes, deferred_bytes, table_bytes, tables_shared;
};

struct ramet_vm {
	struct port port; /* the interface for its devices */
	struct ramet_family *family;
	uint64_t id;
	char name[RAMET_NAME_MAX];
	atomic_uint refs;
	_Atomic(void *) data; /* the embedder's */

	atomic_uint counting; /* a futex: not 0 while op is held only to count memory */
	/* What was counted the last time; guarded by the family's lock. */
	struct vm_count counted;
	uint64_t duplicates;

	/* Lineage; guarded by the family's lock. */
	bool linked;
	uint64_t parent_id;
	struct ramet_vm *parent, *first_child, *last_child, *sibling;

	struct lock op; /* one operation (fork, pause, resume, reset, stop) at a time */
	_Atomic enum ramet_state state;
	char failure[RAMET_FAILURE_MAX]; /* valid if exit_status is VM_EXIT_FAILED */
	bool ran;			 /* the VM may differ from its birth generation */
	struct shell *_Atomic shell;	 /* changed under op; the fault threads look at it, too */
	struct generation *birth;	 /* the generation that it runs from */
	struct generation *home;	 /* the generation for a reset; NULL: the VM booted */
	struct device_set devices;

	/*
	 * Input from outside goes to the devices under input_lock and without op, while `input` is
	 * set. Before an operation saves, copies or replaces the devices, or takes the shell away,
	 * it clears `input`, so no input is under way then.
	 */
	struct lock input_lock;
	bool input;
	atomic_bool input_refused; /* some input was not taken, and no watch was woken since */

	/* The present birth, as the doorbell shows it. */
	_Atomic uint64_t births;
	uint8_t genid[16];
	_Atomic uint64_t born_ns;
	_Atomic uint64_t ready_ns;
	atomic_bool newborn; /* counted in the family's `newborns` */

	/* What the guest has written to the doorbell. */
	_Atomic uint64_t heartbeats;
	atomic_uint counter, phase, report;
	_Atomic uint64_t report_gpa;
	atomic_int exit_status;

	/* For threads that wait for an event: `events` is a futex that changes at each event if
	 * there are waiters. */
	atomic_uint events, waiters;
	struct lock watch_lock; /* guards `watches`; nothing is taken under it */
	struct ramet_watch *watches;
	STAILQ_ENTRY(ramet_vm) next_ended; /* in the reaper's queue */
	atomic_uint told; /* a futex: 1 when the embedder has been told that this VM has ended */
};

struct ramet_family {
	int stage;		 /* the steps of the set-up that are done, see family.c */
	struct ramet_config cfg; /* the strings are private copies */
	struct ram_layout ram;
	bool virtio_console; /* console input goes to the virtio console */
	uint64_t tables;     /* second-level tables of each VM, shared or not: all RAM is mapped */
	struct machine machine;
	struct memory memory;

	/* Each operation on a VM holds this for reading, taken before the VM's op. The checker
	 * holds it for writing, so that it sees no operation half done. */
	struct rwlock operations;
	struct lock lock; /* guards root, next_id and the lineage fields of each VM */
	struct ramet_vm *root;
	uint64_t next_id;
	_Atomic uint64_t living; /* VMs in the tree that run or are paused */
	_Atomic uint64_t forks, resets;
	atomic_uint
		count_next; /* the VM, in the order of the tree, to be counted first next time */

	struct newborns newborns;
	struct budget budget; /* set by the guard */
	struct shell_pool shells;
	struct generations generations;
	struct settler settler;
	struct reaper *reaper;
	struct faults faults;
	struct guard *guard;
};

#endif
