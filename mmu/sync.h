/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Locks, counts and the grace period. Each costs only a branch while calls are serialized.
 *
 * Order of locks: roots (two of them by address), root->top_lock, tables from the top down, and
 * last limbo_lock. Callbacks that may take long (flush, alloc, copy) are called with only a root's
 * lock held.
 */
#ifndef RAMET_MMU_SYNC_H
#define RAMET_MMU_SYNC_H

#include "include/ramet/mmu.h"

static inline bool is_serial(const struct mmu *m)
{
	return !m->cpu;
}

/* Only for counts that are reported. They order no other memory access. */
static inline void count_add(const struct mmu *m, _Atomic uint64_t *count, uint64_t n)
{
	if (is_serial(m))
		atomic_store_explicit(count, atomic_load_explicit(count, memory_order_relaxed) + n,
			memory_order_relaxed);
	else
		atomic_fetch_add_explicit(count, n, memory_order_relaxed);
}

void mmu_relax(struct mmu *m);

void mmu_spin_lock(struct mmu *m, _Atomic uint8_t *lock);
static inline void mmu_spin_unlock(struct mmu *m, _Atomic uint8_t *lock)
{
	if (!is_serial(m))
		atomic_store_explicit(lock, 0, memory_order_release);
}

static inline void mmu_table_lock(struct mmu *m, struct mmu_table *t)
{
	if (!is_serial(m))
		mmu_spin_lock(m, &t->lock);
}

static inline void mmu_table_unlock(struct mmu *m, struct mmu_table *t)
{
	mmu_spin_unlock(m, &t->lock);
}

void mmu_root_lock(struct mmu *m, struct mmu_root *root, bool exclusive);
void mmu_root_unlock(struct mmu *m, struct mmu_root *root, bool exclusive);

/*
 * Tables that are reachable when a walk begins stay readable until the walk ends. Walks nest.
 * Returns NULL while calls are serialized.
 */
struct mmu_cpu *mmu_walk_begin(struct mmu *m);
void mmu_walk_end(struct mmu_cpu *cpu);

/* Frees a table that no slot and no root links to any more, after all walks that may have reached
 * it have ended. */
void mmu_retire(struct mmu *m, struct mmu_table *t);
/* Frees the retired tables whose grace period is over. */
void mmu_limbo_poll(struct mmu *m);

enum mmu_settled { MMU_FREE, MMU_VISITED, MMU_ANOTHER_PERIOD };

struct mmu_scheme {
	const char *name;
	bool keeps_empty; /* mmu_discard() never frees tables */
	bool counts;	  /* get and put keep the table alive, so a visit needs no walk around it */
	/* Begins a visit. False: the table is about to be freed. */
	bool (*get)(struct mmu_cpu *cpu, struct mmu_table *t);
	/* Ends a visit. True: nothing else keeps the table alive, the caller frees it. */
	bool (*put)(struct mmu_cpu *cpu, struct mmu_table *t);
	/* Called after each grace period of a dead table. */
	enum mmu_settled (*settle)(struct mmu *m, struct mmu_table *t);
	/* May the table be unlinked? Called first without its lock, then again under the lock. */
	bool (*is_empty)(const struct mmu *m, struct mmu_table *t);
};

#endif
