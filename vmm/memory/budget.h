/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's memory that is left, as the guard (vm/guard.c) saw it last. Tells whether something
 * new may begin, and has the words for an error when memory is short. Any thread may call.
 */
#ifndef RAMET_VMM_MEMORY_BUDGET_H
#define RAMET_VMM_MEMORY_BUDGET_H

#include <stdatomic.h>
#include <stdbool.h>

#include "include/ramet/ramet.h"
#include "vmm/base/headroom.h"
#include "vmm/base/lock.h"

struct budget {
	atomic_bool tight;
	struct lock lock; /* guards left */
	struct headroom_left left;
};

void budget_init(struct budget *b, const struct headroom_left *left);
void budget_destroy(struct budget *b);
/* Notes what the guard has seen. */
void budget_set(struct budget *b, const struct headroom_left *left, bool tight);

/* Memory is so short that nothing new may begin. */
static inline bool budget_tight(const struct budget *b)
{
	return atomic_load_explicit(&b->tight, memory_order_relaxed);
}

/* The bytes that were left when the guard looked last. UINT64_MAX: unknown. */
uint64_t budget_left(struct budget *b);
/* Fills in the headroom. */
void budget_stat(struct budget *b, struct ramet_family_stat *st);
/* When memory is short: ": the host has 3 MiB of its 128 MiB left"; otherwise "". */
#define BUDGET_HINT 160
const char *budget_hint(struct budget *b, char buf[BUDGET_HINT]);

#endif
