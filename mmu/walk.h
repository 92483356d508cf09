/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The walker. It goes through the slots of a range in order, asks a visitor about each, and
 *  1. skips it, or has the visitor act on it, or goes into what is below;
 *  2. going in to look, it follows links; going in to change, it makes what is below the root's own
 *     first: it breaks, creates, splits;
 *  3. coming back up, it takes out tables that are empty.
 *
 * A change walks twice: to prepare (all that may fail, and that changes no translation), then to
 * apply (which does not fail). When preparing fails a third walk takes out the empty tables it
 * left.
 */
#ifndef RAMET_MMU_WALK_H
#define RAMET_MMU_WALK_H

#include "mmu/table.h"

enum mmu_step { MMU_OVER, MMU_ACT, MMU_INTO };

struct mmu_walk;

struct mmu_visitor {
	/*
	 * What to do about entry e of the slot at w->here of that level. `covered`: the range
	 * covers the slot. A step, or an error; no error when applying.
	 */
	int (*plan)(struct mmu_walk *w, unsigned level, uint64_t e, bool covered);
	/* Acts on slot i of t, and if it likes on more that follow in the range; returns how many.
	 * A change has t locked, and room in w->c. Looking: negative or 0 stops, see mmu_look(). */
	int (*act)(struct mmu_walk *w, struct mmu_table *t, unsigned i);
	/* Changes, after coming back from what is below slot i. May be NULL. */
	void (*back)(struct mmu_walk *w, struct mmu_table *t, unsigned i);
	/* Looks: before going through a table; false: do not. May be NULL. */
	bool (*enter)(struct mmu_walk *w, struct mmu_table *t);
	bool checks_leaves; /* plan wants to see the leaves of PTE tables when preparing */
};

struct mmu_walk {
	struct mmu *m;
	const struct mmu_visitor *v;
	void *arg;
	uint64_t at, end; /* the range, in bytes */
	uint64_t here;	  /* the slot that is being looked at */
	enum { MMU_LOOK, MMU_PREPARE, MMU_APPLY, MMU_PRUNE } pass;
	bool writable, shared; /* looking: what the links down to here say */
	bool keep_empty;       /* PTE tables are left in place */
	bool by_scheme;	       /* m->scheme says whether a table is empty */
	int stopped;	       /* looking: what act made of it */
	struct mmu_change c;   /* changing */
};

/* Of n pages from `at`: MMU_INVALID unless they are pages of the address space. */
int mmu_range(struct mmu_walk *w, gpa_t at, uint64_t n);

/*
 * Changes w's range of a root. Takes the root's lock, exclusively for more than one span or if told
 * so, and flushes at the end.
 */
int mmu_change(struct mmu_walk *w, struct mmu_root *root, bool exclusive);
/* The same with the lock held, without the flush. */
int mmu_change_locked(struct mmu_walk *w);
/* Takes out empty tables that are the root's own in w's range. Locked likewise. */
void mmu_prune(struct mmu_walk *w);

/* For looks: acts on all leaves. */
int mmu_plan_look(struct mmu_walk *w, unsigned level, uint64_t e, bool covered);
/* What a look finds at w->here. */
struct mmu_leaf mmu_leaf_of(const struct mmu_walk *w, unsigned level, uint64_t e);

/* Looks at w's range of a root. Stops when w->stopped, and returns it. */
int mmu_look(struct mmu_walk *w, const struct mmu_root *root);
/* The same from a table down, which begins at base. In a walk. */
int mmu_look_from(struct mmu_walk *w, struct mmu_table *t, uint64_t base);

#endif
