/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Locks, counts and the grace period. All of it costs a branch while calls are serialized.
 *
 * Order of locks: roots (two of them by address), root->top_lock, tables from the top down, and
 * last limbo_lock. Callbacks that may take long (flush, alloc, copy) are made under a root's lock
 * alone.
 */
#ifndef RAMET_MMU_SYNC_H
#define RAMET_MMU_SYNC_H

#include "include/ramet/mmu.h"

static inline bool is_serial(const struct mmu *m)
{
	return !m->cpu;
}

/* For the reports of counts alone: they order nothing. */
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
 * What is reachable when a walk begins stays readable until it ends. Walks nest. NULL while calls
 * are serialized.
 */
struct mmu_cpu *mmu_walk_begin(struct mmu *m);
void mmu_walk_end(struct mmu_cpu *cpu);

/* A table that no slot and no root links to any more: frees it past all walks that might know it.
 */
void mmu_retire(struct mmu *m, struct mmu_table *t);
/* Frees what is past them by now. */
void mmu_limbo_poll(struct mmu *m);

enum mmu_settled { MMU_FREE, MMU_VISITED, MMU_ANOTHER_PERIOD };

struct mmu_scheme {
	const char *name;
	bool keeps_empty; /* mmu_discard() never frees tables */
	bool counts; /* visits hold their table with get and put, and need no walk around them */
	/* A visit; false: the table is on its way out. */
	bool (*get)(struct mmu_cpu *cpu, struct mmu_table *t);
	/* Its end; true: it was the last thing that kept the table's memory, free it. */
	bool (*put)(struct mmu_cpu *cpu, struct mmu_table *t);
	/* After each grace period of a dead table. */
	enum mmu_settled (*settle)(struct mmu *m, struct mmu_table *t);
	/* May it be unlinked? Decided under its lock, asked for without it before. */
	bool (*is_empty)(const struct mmu *m, struct mmu_table *t);
};

#endif
