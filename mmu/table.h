/* SPDX-License-Identifier: Apache-2.0 */
/* Tables, their counts, and changes to them. Only for files of mmu/. */
#ifndef RAMET_MMU_TABLE_H
#define RAMET_MMU_TABLE_H

#include "mmu/slot.h"
#include "mmu/sync.h"

/* The table to change is dead by now: start again at the root. Used only inside mmu/. */
#define MMU_AGAIN (-11)

/*
 * A change of one root that is under way: the flush that is due, and the references that can be
 * dropped after the flush. Lives on the stack; mmu_change_finish() flushes and drops them.
 */
#define MMU_OLD_MAX 32u
struct mmu_change {
	struct mmu *m;
	struct mmu_root *root;
	struct mmu_flush due;
	unsigned n_old;
	struct mmu_old {
		struct mmu_table *table; /* drop one reference to this table */
		uint64_t first, n;	 /* if table is NULL: one to each of these frames */
	} old[MMU_OLD_MAX];
};

static inline void mmu_change_start(struct mmu_change *c, struct mmu *m, struct mmu_root *root)
{
	c->m = m;
	c->root = root;
	c->due = (struct mmu_flush){ .kind = MMU_FLUSH_NOTHING };
	c->n_old = 0;
}
/* Flushes only: afterwards no processor walks the old tables, but c->old still has the references.
 * The caller may hold the root's lock, but no other. */
void mmu_change_flush(struct mmu_change *c);
/* Flushes, and drops the references of c->old. */
void mmu_change_finish(struct mmu_change *c);
/* True: call mmu_change_finish() before the next slot is set. */
static inline bool mmu_change_full(const struct mmu_change *c)
{
	return c->n_old == MMU_OLD_MAX;
}
void mmu_due_range(struct mmu_change *c, uint64_t from, uint64_t to);
void mmu_due_root(struct mmu_change *c, bool moved);

/* Returns an empty table with one reference, or NULL. */
struct mmu_table *mmu_table_new(struct mmu *m, unsigned level);
void mmu_table_get(struct mmu *m, struct mmu_table *t);
/* The last put drops the references of the table's slots. The table is freed when no walker can
 * reach it any more. */
void mmu_table_put(struct mmu *m, struct mmu_table *t);

/*
 * Sets slot i to `e`. Only this function changes what a slot refers to; it updates the counts and
 * decides what must be flushed. Takes over the reference that `e` stands for; the reference of the
 * old entry goes to c->old. The table must be c->root's own, and locked. Returns the old entry.
 */
uint64_t mmu_set_slot(
	struct mmu_change *c, struct mmu_table *t, unsigned i, uint64_t at, uint64_t e);
/* Sets and clears bits of a slot, without changing what it refers to. Safe while the processor sets
 * A and D. Returns the old entry. */
uint64_t mmu_set_bits(struct mmu_change *c, struct mmu_table *t, unsigned i, uint64_t at,
	uint64_t set, uint64_t clear);
/* Clears W. Allowed even in a shared table: for the other sharers, a link further up is already
 * write-protected. Returns true if W was set. */
bool mmu_protect_slot(struct mmu *m, struct mmu_table *t, unsigned i);

/*
 * Makes the table below slot i of t the root's own; t must be the root's own already. A shared
 * table is copied, a missing one is made, a large leaf is split. Returns 0, MMU_NO_MEMORY or
 * MMU_AGAIN. The caller holds no table lock.
 */
int mmu_own_child(struct mmu_change *c, struct mmu_table *t, unsigned i, uint64_t at,
	struct mmu_table **child);
int mmu_own_top(struct mmu_change *c, struct mmu_table **top);

/* Decides which tables a copy shares with its original. */
struct mmu_copy {
	struct mmu *m;
	bool protected; /* result: W was cleared somewhere in the original */
	unsigned share; /* tables up to this level may be shared */
	/* Only tables in these regions are shared; `region` is a cursor. NULL: everywhere. */
	const struct mmu_region *region, *end;
};
/*
 * Fills `to`, which is empty and not linked yet, with what `from` maps. Slots that then refer to
 * the same table or frame are write-protected in both tables. Pinned pages are copied instead.
 * After MMU_NO_MEMORY the caller puts `to`.
 */
int mmu_table_copy(
	struct mmu_copy *copy, struct mmu_table *from, struct mmu_table *to, uint64_t at);
bool mmu_shareable(struct mmu_copy *copy, const struct mmu_table *t, uint64_t at);

/* For a table of level 1: true if no slot is empty and the frames are consecutive. */
bool mmu_looks_linear(const struct mmu *m, const struct mmu_table *t);

/* Returns the table of `level` on the way to `at`, or NULL. Called within a walk, or with the root
 * locked. */
struct mmu_table *mmu_table_find(
	const struct mmu *m, const struct mmu_root *root, uint64_t at, unsigned level);

#endif
