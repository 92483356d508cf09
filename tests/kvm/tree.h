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
	/* VMs may fail, and operations be refused, for want of memory; but not without saying so.
	 */
	bool starved;
	unsigned forks, resets, errors;
};

void tree_start(struct tree *t, struct ramet_config *cfg, bool starved);
/* One operation on one VM; then looks at all of them. */
void tree_step(struct tree *t);
/* Stops a VM and forgets it. */
void tree_drop(struct tree *t, unsigned i);
/* Recomputes all counts. */
void tree_check(struct tree *t);
/* Checks, stops all, checks that nothing is left. Not of a starved one. */
void tree_end(struct tree *t);

#endif
