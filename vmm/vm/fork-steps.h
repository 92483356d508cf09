/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The steps of a fork. All that can fail or take long is done before the vCPUs are stopped: shells,
 * memory, and a root that shares the PTE tables of the VM's birth generation. (The tables of a
 * running VM never change: its writes are private to its view.) In the pause only the machine's
 * state is saved and loaded.
 */
#ifndef RAMET_VMM_VM_FORK_STEPS_H
#define RAMET_VMM_VM_FORK_STEPS_H

#include "vmm/vm/vm.h"

struct fork {
	/* The request. */
	struct ramet_vm *vm;
	unsigned n;
	struct ramet_vm **child; /* [n], all NULL */
	uint64_t request_ns;
	bool running;  /* the parent is running */
	bool reserved; /* has a place among the unsettled generations */
	/* The VM has not run since its birth, so its birth generation is used again. */
	bool reuse;
	/* The children enter their guest together, when all of them have been loaded and are in the
	 * family. Otherwise the first ones would take the CPUs, and locks of the memory map, from
	 * the thread that makes the others. */
	bool burst;

	/* For the steps, and their result. */
	struct generation *gen;
	struct shell *old_shell, *shell; /* the parent's */
	struct generation *old_birth;	 /* the parent's */
	int error;			 /* result of hand_over() */
	uint64_t stop_ns;		 /* when the parent's vCPUs were told to stop */
	/* The VM has a view over its birth generation; this view becomes the overlay. */
	bool deferred;
	bool parent_runs; /* the fork has waited until the parent ran */
};

/* Does all steps of a fork. The VM is locked, and the request is filled in. On success the
 * children are locked, and, in a burst, held; they are not in the family's tree yet. 0 or -errno:
 * then there are no children, and the VM continues. */
int fork_steps(struct fork *fork, bool run);

#endif
