/* SPDX-License-Identifier: Apache-2.0 */
/* Tables, their counts, and changes to them. Inside mmu/ only. */
#ifndef RAMET_MMU_TABLE_H
#define RAMET_MMU_TABLE_H

#include "mmu/slot.h"
#include "mmu/sync.h"

/* A table that was to be changed has died meanwhile: start again at the root. Never leaves mmu/. */
#define MMU_AGAIN (-11)

/*
 * A change of one root under way: the flush that it makes due, and what can be given up after that.
 * Lives on the stack; mmu_change_finish() flushes and gives up.
 */
#define MMU_OLD_MAX 32u
struct mmu_change {
	struct mmu *m;
	struct mmu_root *root;
	struct mmu_flush due;
	unsigned n_old;
	struct mmu_old {
		struct mmu_table *table; /* one reference to it, or */
		uint64_t first, n;	 /* one to each of these frames */
	} old[MMU_OLD_MAX];
};

static inline void mmu_change_start(struct mmu_change *c, struct mmu *m, struct mmu_root *root)
{
	c->m = m;
	c->root = root;
	c->due = (struct mmu_flush){ .kind = MMU_FLUSH_NOTHING };
	c->n_old = 0;
}
/* No locks but the root's are held. The first half of it: what is to be given up is still there,
 * and no processor walks it any more. */
void mmu_change_flush(struct mmu_change *c);
/* Both. */
void mmu_change_finish(struct mmu_change *c);
/* Must be finished, for now, before another slot can be set. */
static inline bool mmu_change_full(const struct mmu_change *c)
{
	return c->n_old == MMU_OLD_MAX;
}
void mmu_due_range(struct mmu_change *c, uint64_t from, uint64_t to);
void mmu_due_root(struct mmu_change *c, bool moved);

/* An empty table with one reference, or NULL. */
struct mmu_table *mmu_table_new(struct mmu *m, unsigned level);
void mmu_table_get(struct mmu *m, struct mmu_table *t);
/* The last put gives up what its slots refer to, and frees it past all walkers. */
void mmu_table_put(struct mmu *m, struct mmu_table *t);

/*
 * The one place where a slot changes what it refers to, where counts follow and where it is decided
 * what must be flushed. Takes over the reference that `e` stands for; the one that was there goes
 * to c->old. The table is c->root's alone, and locked. Returns what was there at last.
 */
uint64_t mmu_set_slot(
	struct mmu_change *c, struct mmu_table *t, unsigned i, uint64_t at, uint64_t e);
/* Sets and clears bits that refer to nothing; the processor may be setting A and D. Returns what
 * was there. */
uint64_t mmu_set_bits(struct mmu_change *c, struct mmu_table *t, unsigned i, uint64_t at,
	uint64_t set, uint64_t clear);
/* Clears W; allowed in a table that others share, since it takes nothing from them that they have.
 * True: it was set. */
bool mmu_protect_slot(struct mmu *m, struct mmu_table *t, unsigned i);

/*
 * The table below slot i of t, which is the root's alone, made the root's alone as well: what is
 * shared is copied, what is missing is made, what is a large leaf is split. 0, MMU_NO_MEMORY or
 * MMU_AGAIN. No table lock is held.
 */
int mmu_own_child(struct mmu_change *c, struct mmu_table *t, unsigned i, uint64_t at,
	struct mmu_table **child);
int mmu_own_top(struct mmu_change *c, struct mmu_table **top);

/* What a copy shares with its original. */
struct mmu_copy {
	struct mmu *m;
	bool protected;			       /* W was cleared somewhere in the original */
	unsigned share;			       /* tables up to this level, */
	const struct mmu_region *region, *end; /* in these regions: a cursor. NULL: anywhere */
};
/*
 * Fills `to`, empty and not linked yet, with what `from` maps. What both refer to then, both have
 * write-protected, but for pinned pages. MMU_NO_MEMORY: `to` can be put.
 */
int mmu_table_copy(
	struct mmu_copy *copy, struct mmu_table *from, struct mmu_table *to, uint64_t at);
bool mmu_shareable(struct mmu_copy *copy, const struct mmu_table *t, uint64_t at);

/* Of level 1: all leaves are there, their frames in a row. */
bool mmu_looks_linear(const struct mmu *m, const struct mmu_table *t);

/* The table of `level` on the way to `at`, or NULL. In a walk, or with the root locked. */
struct mmu_table *mmu_table_find(
	const struct mmu *m, const struct mmu_root *root, uint64_t at, unsigned level);

#endif
