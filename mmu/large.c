// SPDX-License-Identifier: Apache-2.0
/* Large leaves: split them into tables of smaller leaves, and merge such tables into them. */
#include "mmu/walk.h"

/* There is no act: the walker itself splits the leaves that it goes into. */
static int plan_split(struct mmu_walk *w, unsigned level, uint64_t e, bool covered)
{
	unsigned target = *(unsigned *)w->arg;

	if (is_empty(w->m, e))
		return MMU_OVER;
	if (is_link(e, level))
		return level - 1 > target ? MMU_INTO : MMU_OVER;
	return level > target ? MMU_INTO : MMU_OVER;
}

int mmu_split(struct mmu *m, struct mmu_root *root, gpa_t at, uint64_t n, unsigned level)
{
	static const struct mmu_visitor visitor = { .plan = plan_split };
	struct mmu_walk w = { .m = m, .v = &visitor, .arg = &level };

	if (mmu_range(&w, at, n) || level < 1 || level > 2)
		return MMU_INVALID;
	return mmu_change(&w, root, false);
}

static int plan_merge(struct mmu_walk *w, unsigned level, uint64_t e, bool covered)
{
	/* A shared table is left alone. */
	if (is_empty(w->m, e) || !is_link(e, level) || refs_of(linked(w->m, e)) > 1)
		return MMU_OVER;
	return MMU_INTO;
}

/* Returns one leaf that maps the same as all of t; 0: there is none. */
static uint64_t merged(const struct mmu *m, const struct mmu_table *t)
{
	uint64_t noted = m->format->accessed | m->format->dirty, first = slot(t, 0) & ~noted;
	uint64_t seen = m->format->accessed | (is_writable(m, first) ? m->format->dirty : 0);

	/* `seen` also has the bits that the processor may still set in the old leaves until the
	 * flush. */
	if (used_of(t) < MMU_SLOTS || t->pins || is_link(first, t->level) ||
		frame_of(first) % level_pages(t->level + 1u))
		return 0;
	for (unsigned i = 0; i < MMU_SLOTS; i++) {
		uint64_t e = slot(t, i);

		if ((e & ~noted) != first + i * level_size(t->level))
			return 0;
		seen |= e & noted;
	}
	return first | MMU_PS | seen;
}

static void back_merge(struct mmu_walk *w, struct mmu_table *t, unsigned i)
{
	struct mmu *m = w->m;
	uint64_t size = level_size(t->level), e;

	if (t->level > *(unsigned *)w->arg || w->here < w->at || w->here + size > w->end)
		return;
	e = merged(m, linked(m, slot(t, i)));
	if (!e)
		return;
	if (mmu_change_full(&w->c))
		mmu_change_finish(&w->c);
	/* The new leaf needs references of its own: the old table drops its references later. */
	m->ops->get_frames(m->ctx, frame_of(e), level_pages(t->level));
	mmu_table_lock(m, t);
	mmu_set_slot(&w->c, t, i, w->here, e);
	mmu_table_unlock(m, t);
}

int mmu_merge(struct mmu *m, struct mmu_root *root, gpa_t at, uint64_t n, unsigned level)
{
	static const struct mmu_visitor visitor = { .plan = plan_merge, .back = back_merge };
	struct mmu_walk w = { .m = m, .v = &visitor, .arg = &level };

	if (mmu_range(&w, at, n) || level < 2 || level > 3)
		return MMU_INVALID;
	return mmu_change(&w, root, true);
}
