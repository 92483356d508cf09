// SPDX-License-Identifier: Apache-2.0
#include "mmu/walk.h"

int mmu_range(struct mmu_walk *w, gpa_t at, uint64_t n)
{
	uint64_t size = level_size(MMU_LEVELS + 1);

	if (at.v % MMU_PAGE_SIZE || at.v > size || n > (size - at.v) / MMU_PAGE_SIZE)
		return MMU_INVALID;
	w->at = at.v;
	w->end = at.v + n * MMU_PAGE_SIZE;
	return 0;
}

/* Makes room in w->c by finishing it. t must stay linked, but its lock must be released for that;
 * t->held keeps it linked meanwhile. */
static void make_room(struct mmu_walk *w, struct mmu_table *t)
{
	t->held++;
	mmu_table_unlock(w->m, t);
	mmu_change_finish(&w->c);
	mmu_table_lock(w->m, t);
	t->held--;
}

static bool is_out(const struct mmu_walk *w, struct mmu_table *t)
{
	if (w->keep_empty && t->level == 1)
		return false;
	return w->by_scheme ? w->m->scheme->is_empty(w->m, t) : !used_of(t);
}

/* Unlinks the table below slot i of t if it is empty. */
static void prune_child(struct mmu_walk *w, struct mmu_table *t, unsigned i)
{
	struct mmu *m = w->m;
	struct mmu_table *child;
	bool goes = false;
	uint64_t e;

	if (mmu_change_full(&w->c))
		mmu_change_finish(&w->c);
	mmu_table_lock(m, t);
	e = slot(t, i);
	if (!atomic_load(&t->dead) && !is_empty(m, e) && is_link(e, t->level) &&
		is_writable(m, e)) {
		child = linked(m, e);
		mmu_table_lock(m, child);
		goes = !child->held && is_out(w, child);
		if (goes)
			atomic_store(&child->dead, true);
		mmu_table_unlock(m, child);
	}
	if (goes)
		mmu_set_slot(&w->c, t, i, w->here, 0);
	mmu_table_unlock(m, t);
}

static int step_into(struct mmu_walk *w, struct mmu_table *t, unsigned i, uint64_t e);

/* Acts on consecutive slots under one lock. Returns their number, or MMU_AGAIN. */
static int act_on_slots(struct mmu_walk *w, struct mmu_table *t, unsigned i, uint64_t end)
{
	uint64_t size = level_size(t->level);
	unsigned first = i;
	int n = 0;

	mmu_table_lock(w->m, t);
	if (atomic_load(&t->dead)) {
		mmu_table_unlock(w->m, t);
		return MMU_AGAIN;
	}
	while (i < MMU_SLOTS && w->here < end) {
		uint64_t e = slot(t, i);
		bool covered = w->here >= w->at && w->here + size <= w->end;
		int step = w->v->plan(w, t->level, e, covered);

		if (step == MMU_INTO)
			break;
		if (mmu_change_full(&w->c))
			make_room(w, t);
		n = step == MMU_ACT ? w->v->act(w, t, i) : 1;
		i += (unsigned)n;
		w->here += (uint64_t)n * size;
	}
	mmu_table_unlock(w->m, t);
	return (int)(i - first);
}

/* Walks the slots of t, which maps addresses from base on, as far as the range goes. */
static int walk_table(struct mmu_walk *w, struct mmu_table *t, uint64_t base)
{
	uint64_t size = level_size(t->level), end = base + size * MMU_SLOTS;
	unsigned i = w->at > base ? level_index(w->at, t->level) : 0;
	uint64_t here = base + i * size;
	int r = 0;

	if (end > w->end)
		end = w->end;
	while (here < end) {
		uint64_t e = slot(t, i);
		int n = 1;

		w->here = here;
		r = w->v->plan(w, t->level, e, here >= w->at && here + size <= w->end);
		if (r < 0)
			return r;
		if (r == MMU_INTO)
			r = step_into(w, t, i, e);
		else if (r == MMU_ACT && w->pass == MMU_APPLY)
			n = r = act_on_slots(w, t, i, end);
		else if (r == MMU_ACT && w->pass == MMU_LOOK)
			n = r = w->v->act(w, t, i);
		if (r < 0 || (w->pass == MMU_LOOK && w->stopped))
			return r;
		i += (unsigned)n;
		here += (uint64_t)n * size;
	}
	return 0;
}

static int look_into(struct mmu_walk *w, uint64_t e)
{
	struct mmu_table *child = linked(w->m, e);
	bool writable = w->writable, shared = w->shared;
	int r = 0;

	w->writable &= is_writable(w->m, e);
	w->shared |= refs_of(child) > 1;
	if (!w->v->enter || w->v->enter(w, child))
		r = walk_table(w, child, w->here);
	w->writable = writable;
	w->shared = shared;
	return r;
}

static int step_into(struct mmu_walk *w, struct mmu_table *t, unsigned i, uint64_t e)
{
	uint64_t here = w->here;
	struct mmu_table *child;
	int r;

	if (w->pass == MMU_LOOK)
		return look_into(w, e);
	if (w->pass == MMU_PRUNE)
		child = linked(w->m, e);
	else if ((r = mmu_own_child(&w->c, t, i, here, &child)))
		return r;
	if (w->pass == MMU_PREPARE && child->level == 1 && !child->pins && !w->v->checks_leaves)
		return 0;
	r = walk_table(w, child, here);
	w->here = here;
	if (r || w->pass == MMU_PREPARE)
		return r;
	if (w->v->back)
		w->v->back(w, t, i);
	if (is_out(w, child))
		prune_child(w, t, i);
	return 0;
}

static int walk_root(struct mmu_walk *w)
{
	struct mmu_cpu *cpu = mmu_walk_begin(w->m);
	struct mmu_table *top;
	int r = mmu_own_top(&w->c, &top);

	if (!r)
		r = walk_table(w, top, 0);
	mmu_walk_end(cpu);
	return r;
}

static int plan_prune(struct mmu_walk *w, unsigned level, uint64_t e, bool covered)
{
	return !is_empty(w->m, e) && is_link(e, level) && is_writable(w->m, e) ? MMU_INTO
									       : MMU_OVER;
}

void mmu_prune(struct mmu_walk *w)
{
	static const struct mmu_visitor prune = { .plan = plan_prune };

	w->v = &prune;
	w->pass = MMU_PRUNE;
	w->keep_empty = w->by_scheme = false;
	if (refs_of(top_of(w->c.root)) == 1)
		walk_root(w);
}

int mmu_change_locked(struct mmu_walk *w)
{
	int r;

	/* Start again if a table died meanwhile. Nothing was applied then: other threads can only
	 * interfere with a range in one span, since longer ranges hold the lock exclusively. */
	do {
		w->pass = MMU_PREPARE;
		r = walk_root(w);
		if (r)
			continue;
		w->pass = MMU_APPLY;
		r = walk_root(w);
	} while (r == MMU_AGAIN);
	if (r)
		mmu_prune(w);
	return r;
}

int mmu_change(struct mmu_walk *w, struct mmu_root *root, bool exclusive)
{
	int r;

	if (w->at == w->end)
		return 0;
	exclusive |= w->at / MMU_SPAN_SIZE != (w->end - 1) / MMU_SPAN_SIZE;
	mmu_change_start(&w->c, w->m, root);
	mmu_root_lock(w->m, root, exclusive);
	r = mmu_change_locked(w);
	mmu_change_finish(&w->c);
	mmu_root_unlock(w->m, root, exclusive);
	return r;
}

int mmu_look_from(struct mmu_walk *w, struct mmu_table *t, uint64_t base)
{
	w->pass = MMU_LOOK;
	w->writable = true;
	w->shared = refs_of(t) > 1;
	w->stopped = 0;
	if (!w->v->enter || w->v->enter(w, t))
		walk_table(w, t, base);
	return w->stopped;
}

int mmu_look(struct mmu_walk *w, const struct mmu_root *root)
{
	struct mmu_cpu *cpu = mmu_walk_begin(w->m);
	int r;

	w->here = 0;
	r = mmu_look_from(w, top_of(root), 0);
	mmu_walk_end(cpu);
	return r;
}
