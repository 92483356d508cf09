/* SPDX-License-Identifier: Apache-2.0 */
/* What a table holds and what counts it: reading. Inside mmu/ only. */
#ifndef RAMET_MMU_SLOT_H
#define RAMET_MMU_SLOT_H

#include "mmu/entry.h"

static inline uint64_t slot(const struct mmu_table *t, unsigned i)
{
	return atomic_load_explicit(&t->slot[i], memory_order_acquire);
}

static inline struct mmu_table *linked(const struct mmu *m, uint64_t e)
{
	return m->ops->table(m->ctx, e & MMU_ADDR);
}

static inline uint32_t refs_of(const struct mmu_table *t)
{
	return atomic_load_explicit(&t->refs, memory_order_acquire);
}

/* `used` and `linear` are written under the table's lock, and may be read without it. */
static inline unsigned used_of(const struct mmu_table *t)
{
	return atomic_load_explicit(&t->used, memory_order_relaxed);
}

static inline void set_used(struct mmu_table *t, unsigned used)
{
	atomic_store_explicit(&t->used, (uint16_t)used, memory_order_relaxed);
}

static inline bool is_linear(const struct mmu_table *t)
{
	return atomic_load_explicit(&t->linear, memory_order_relaxed);
}

static inline void set_linear(struct mmu_table *t, bool linear)
{
	atomic_store_explicit(&t->linear, linear, memory_order_relaxed);
}

static inline struct mmu_table *top_of(const struct mmu_root *root)
{
	return atomic_load_explicit(&root->top, memory_order_acquire);
}

#endif
