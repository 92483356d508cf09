/* SPDX-License-Identifier: Apache-2.0 */
/* Tables and their counts. Inside mmu/ only. */
#ifndef RAMET_MMU_TABLE_H
#define RAMET_MMU_TABLE_H

#include "mmu/entry.h"

#define MMU_NO_MEMORY	(-12) /* -ENOMEM, -EFAULT, -EINVAL: */
#define MMU_NOT_MAPPED	(-14) /* a freestanding environment */
#define MMU_BAD_ADDRESS (-22) /* does not name them */

static inline uint64_t slot(const struct mmu_table *t, unsigned i)
{
	return atomic_load_explicit(&t->slot[i], memory_order_acquire);
}

static inline struct mmu_table *linked(const struct mmu *m, uint64_t e)
{
	return m->ops->table(m->ctx, e & MMU_ADDR);
}

/* An empty table with one reference, or NULL. */
struct mmu_table *mmu_table_new(struct mmu *m, unsigned level);
void mmu_table_get(struct mmu_table *t);
/* The last put frees it, and gives up what its slots refer to. */
void mmu_table_put(struct mmu *m, struct mmu_table *t);

/*
 * The one place where a slot changes what it refers to. Takes over the reference that `e` stands
 * for, gives up the one that was there. The table has one writer, the caller.
 */
void mmu_set_slot(struct mmu *m, struct mmu_table *t, unsigned i, uint64_t e);
/* Clears W; allowed in a table that others share, since it takes nothing from them that they have.
 */
void mmu_protect_slot(struct mmu *m, struct mmu_table *t, unsigned i);

/*
 * A copy with one reference, or NULL. Tables below of a level up to `share` are shared by the copy
 * and the original, those above it are copied too. Whatever both refer to now, both have it
 * write-protected.
 */
struct mmu_table *mmu_table_copy(struct mmu *m, struct mmu_table *t, unsigned share);

/*
 * The table of `level` on the way to `at`, its whole path owned by this root alone: what is shared
 * is broken, what is missing is made. NULL: out of memory.
 */
struct mmu_table *mmu_table_own(struct mmu *m, struct mmu_root *root, gpa_t at, unsigned level);
/* The same without changing anything: NULL if there is none. */
struct mmu_table *mmu_table_find(
	const struct mmu *m, const struct mmu_root *root, gpa_t at, unsigned level);

#endif
