/* SPDX-License-Identifier: Apache-2.0 */
/* Random trees of VMs under random forks, resets, pauses, reads and stops. */
#ifndef TESTS_KVM_TREE_H
#define TESTS_KVM_TREE_H

#include "tests/kvm/common.h"

#define LIVE_MAX     8
#define MAX_CHILDREN 3

struct tree {
	struct family f;
	struct ramet_vm *live[LIVE_MAX + MAX_CHILDREN];
	unsigned n;
	/* For lack of memory VMs may fail and operations may be refused, but only with a reason. */
	bool starved;
	unsigned forks, resets, errors;
};

void tree_start(struct tree *t, struct ramet_config *cfg, bool starved);
/* Makes one operation on one VM, then checks all VMs. */
void tree_step(struct tree *t);
/* Stops a VM and removes it from the tree. */
void tree_drop(struct tree *t, unsigned i);
/* Recomputes all counts. */
void tree_check(struct tree *t);
/* Checks, stops all VMs, checks that nothing is left. Not for a starved tree. */
void tree_end(struct tree *t);

#endif
