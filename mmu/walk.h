/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The walker. It goes through the slots of a range in order and asks a visitor about each slot:
 *  1. It skips the slot, or lets the visitor act on it, or goes down into the table below.
 *  2. A look follows links on its way down. A change first makes the table below the root's own:
 *     it breaks, creates or splits.
 *  3. On its way up, a change unlinks tables that are empty.
 *
 * A change walks twice. The first walk prepares: it may fail, and changes no translation. The
 * second walk applies, and cannot fail. If the first walk fails, a third walk unlinks the empty
 * tables that the first one left.
 */
#ifndef RAMET_MMU_WALK_H
#define RAMET_MMU_WALK_H

#include "mmu/table.h"

enum mmu_step { MMU_OVER, MMU_ACT, MMU_INTO };

struct mmu_walk;

struct mmu_visitor {
	/*
	 * Decides what to do with e, the entry of the slot of `level` at w->here. `covered`: the
	 * range covers the whole slot. Returns a step or an error; no error in the pass that
	 * applies.
	 */
	int (*plan)(struct mmu_walk *w, unsigned level, uint64_t e, bool covered);
	/* Acts on slot i of t, and perhaps on more slots after it in the range. Returns the number
	 * of slots. In a change, t is locked and w->c has room. A look stops when act sets
	 * w->stopped. */
	int (*act)(struct mmu_walk *w, struct mmu_table *t, unsigned i);
	/* Called in changes, after the walk below slot i. May be NULL. */
	void (*back)(struct mmu_walk *w, struct mmu_table *t, unsigned i);
	/* Called in looks, before the walk through a table; false: skip the table. May be NULL. */
	bool (*enter)(struct mmu_walk *w, struct mmu_table *t);
	bool checks_leaves; /* the first walk must call plan for the leaves of PTE tables, too */
};

struct mmu_walk {
	struct mmu *m;
	const struct mmu_visitor *v;
	void *arg;
	uint64_t at, end; /* the range, in bytes */
	uint64_t here;	  /* address of the current slot */
	enum { MMU_LOOK, MMU_PREPARE, MMU_APPLY, MMU_PRUNE } pass;
	bool writable, shared; /* in looks: all links down to here have W; one table is shared */
	bool keep_empty;       /* leave empty PTE tables in place */
	bool by_scheme;	       /* m->scheme decides whether a table is empty */
	int stopped;	       /* in looks: not 0 ends the walk, and is its result */
	struct mmu_change c;   /* in changes */
};

/* Sets w's range to n pages from `at`. MMU_INVALID: they are not all in the address space. */
int mmu_range(struct mmu_walk *w, gpa_t at, uint64_t n);

/*
 * Changes w's range of a root. Takes the root's lock: exclusively if the range is in more than one
 * span or if `exclusive` is set, otherwise shared. Flushes at the end.
 */
int mmu_change(struct mmu_walk *w, struct mmu_root *root, bool exclusive);
/* The same without the flush. The caller holds the lock. */
int mmu_change_locked(struct mmu_walk *w);
/* Unlinks empty tables of the root's own in w's range. The caller holds the lock. */
void mmu_prune(struct mmu_walk *w);

/* A plan for looks: act on all leaves. */
int mmu_plan_look(struct mmu_walk *w, unsigned level, uint64_t e, bool covered);
/* The leaf that a look has found at w->here. */
struct mmu_leaf mmu_leaf_of(const struct mmu_walk *w, unsigned level, uint64_t e);

/* Looks at w's range of a root. Stops when w->stopped is not 0, and returns w->stopped. */
int mmu_look(struct mmu_walk *w, const struct mmu_root *root);
/* The same, starting at table t, which maps addresses from base on. Called within a walk. */
int mmu_look_from(struct mmu_walk *w, struct mmu_table *t, uint64_t base);

#endif
