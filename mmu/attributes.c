// SPDX-License-Identifier: Apache-2.0
/* The permissions and types of leaves, and the A and D bits that the processor sets in them. */
#include "mmu/walk.h"

/* ---- protect ---- */

struct protect {
	uint64_t bits[MMU_LEVELS]; /* the bits of a leaf, for each level */
};

static int plan_protect(struct mmu_walk *w, unsigned level, uint64_t e, bool covered)
{
	if (is_empty(w->m, e))
		return MMU_OVER;
	return is_link(e, level) || !covered ? MMU_INTO : MMU_ACT;
}

static int act_protect(struct mmu_walk *w, struct mmu_table *t, unsigned i)
{
	const struct protect *p = w->arg;
	uint64_t set = p->bits[t->level] & w->m->format->attr_bits;
	uint64_t clear = w->m->format->attr_bits & ~set;

	/* Only mmu_fault() sets W: it checks whether the frame is shared. */
	if (!(set & MMU_INTENT))
		clear |= w->m->format->write;
	mmu_set_bits(&w->c, t, i, w->here, set, clear);
	return 1;
}

int mmu_protect(struct mmu *m, struct mmu_root *root, gpa_t at, uint64_t n, struct mmu_attr attr)
{
	static const struct mmu_visitor visitor = { .plan = plan_protect, .act = act_protect };
	struct protect p;
	struct mmu_walk w = { .m = m, .v = &visitor, .arg = &p };

	if (mmu_range(&w, at, n))
		return MMU_INVALID;
	for (unsigned level = 1; level < MMU_LEVELS; level++)
		if (!m->format->leaf(attr, level, &p.bits[level]))
			return MMU_INVALID;
	return mmu_change(&w, root, false);
}

/* ---- harvest ---- */

struct harvest {
	uint64_t bits;
	mmu_leaf_fn *fn;
	void *arg;
};

/* Acts on leaves that have one of h->bits set. */
static int plan_any(struct mmu_walk *w, unsigned level, uint64_t e, bool covered)
{
	const struct harvest *h = w->arg;

	if (is_empty(w->m, e))
		return MMU_OVER;
	if (is_link(e, level))
		return MMU_INTO;
	return e & h->bits ? MMU_ACT : MMU_OVER;
}

static int act_any(struct mmu_walk *w, struct mmu_table *t, unsigned i)
{
	w->stopped = 1;
	return 1;
}

static bool has_any(const struct mmu_walk *w, struct mmu_table *t)
{
	static const struct mmu_visitor any = { .plan = plan_any, .act = act_any };
	struct mmu_walk look = { .m = w->m, .v = &any, .arg = w->arg, .at = w->at, .end = w->end };

	return mmu_look_from(&look, t, w->here);
}

static int plan_harvest(struct mmu_walk *w, unsigned level, uint64_t e, bool covered)
{
	int step = plan_any(w, level, e, covered);

	/* A shared table is broken only if it has a bit to clear. */
	if (step == MMU_INTO && w->pass != MMU_LOOK && !is_writable(w->m, e) &&
		!has_any(w, linked(w->m, e)))
		return MMU_OVER;
	return step;
}

static int act_harvest(struct mmu_walk *w, struct mmu_table *t, unsigned i)
{
	const struct harvest *h = w->arg;
	struct mmu_leaf leaf;
	uint64_t e;

	if (w->stopped)
		return 1;
	e = w->pass == MMU_LOOK ? slot(t, i) : mmu_set_bits(&w->c, t, i, w->here, 0, h->bits);
	leaf = mmu_leaf_of(w, t->level, e);
	w->stopped = h->fn(h->arg, &leaf);
	return 1;
}

int mmu_harvest(struct mmu *m, struct mmu_root *root, gpa_t at, uint64_t n, unsigned what,
	mmu_leaf_fn *fn, void *arg)
{
	static const struct mmu_visitor visitor = { .plan = plan_harvest, .act = act_harvest };
	struct harvest h = {
		.bits = (what & MMU_HARVEST_ACCESSED ? m->format->accessed : 0) |
			(what & MMU_HARVEST_DIRTY ? m->format->dirty : 0),
		.fn = fn,
		.arg = arg,
	};
	struct mmu_walk w = { .m = m, .v = &visitor, .arg = &h, .writable = true };
	int r;

	if (mmu_range(&w, at, n))
		return MMU_INVALID;
	if (!(what & MMU_HARVEST_CLEAR))
		return mmu_look(&w, root);
	r = mmu_change(&w, root, false);
	return r ? r : w.stopped;
}
