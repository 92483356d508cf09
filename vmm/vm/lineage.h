/* SPDX-License-Identifier: Apache-2.0 */
/* The tree of a family's VMs: each VM is below its parent. All calls take the family's lock. */
#ifndef RAMET_VMM_VM_LINEAGE_H
#define RAMET_VMM_VM_LINEAGE_H

#include "vmm/vm/vm.h"

/* Puts a VM into the tree, which then holds a reference to it. */
void vm_link(struct ramet_vm *vm);
/* Takes a stopped VM without descendants out of the tree, and then perhaps its parent. Does nothing
 * if the VM is still needed in the tree, or is not in it, or if the embedder has not yet been told
 * of its end. */
void vm_unlink(struct ramet_vm *vm);
/* The number of VMs in the tree. */
unsigned family_size(struct ramet_family *f);
/* Fills a list of the caller's with references to the first VMs of the tree, parents first. Returns
 * their number, `room` at most. Allocates nothing. */
unsigned family_fill(struct ramet_family *f, struct ramet_vm **list, unsigned room);
/* Returns references to all VMs, parents first, so that the caller can use them without the lock.
 * The caller frees the array. NULL: no memory. */
struct ramet_vm **family_snapshot(struct ramet_family *f, unsigned *n);
/* Returns a reference to a VM without descendants, or NULL: no VM is left. Allocates nothing. */
struct ramet_vm *family_leaf(struct ramet_family *f);
/* Tells how many VMs run or are paused, and how many have failed. */
void family_alive(struct ramet_family *f, struct ramet_family_stat *st);

#endif
