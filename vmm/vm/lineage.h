/* SPDX-License-Identifier: Apache-2.0 */
/* The tree of a family's VMs: each under the one it was forked from. All calls take the family's
 * lock. */
#ifndef RAMET_VMM_VM_LINEAGE_H
#define RAMET_VMM_VM_LINEAGE_H

#include "vmm/vm/vm.h"

/* Puts a VM into the tree, which then holds a reference to it. */
void vm_link(struct ramet_vm *vm);
/* Takes a stopped VM without descendants out of the tree, and then perhaps its parent. Nothing to
 * do for one that is still needed there, that is not in it, or of whose end the embedder has not
 * been told. */
void vm_unlink(struct ramet_vm *vm);
/* References to all VMs, parents first, so that they can be looked at without the lock. To be
 * freed. NULL: no memory. */
struct ramet_vm **family_snapshot(struct ramet_family *f, unsigned *n);
/* A reference to a VM without descendants, or NULL: there is none left. Needs no memory. */
struct ramet_vm *family_leaf(struct ramet_family *f);
/* How many run or are paused, and how many have failed. */
void family_alive(struct ramet_family *f, struct ramet_family_stat *st);

#endif
