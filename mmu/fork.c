// SPDX-License-Identifier: Apache-2.0
/* Forks of address spaces, and of single spans. No leaf is looked at, but when a PTE table is
 * copied. */
#include "mmu/table.h"

int mmu_fork(struct mmu *m, struct mmu_root *src, unsigned share, struct mmu_root *dst)
{
	struct mmu_table *top;

	if (share >= MMU_LEVELS) {
		/* There is no link above the top whose W could protect it: its own links do. */
		for (unsigned i = 0; i < MMU_SLOTS; i++)
			mmu_protect_slot(m, src->top, i);
		mmu_table_get(src->top);
		top = src->top;
	} else {
		top = mmu_table_copy(m, src->top, share);
		if (!top)
			return MMU_NO_MEMORY;
	}
	m->shares++;
	dst->top = top;
	return 0;
}

int mmu_share_span(struct mmu *m, struct mmu_root *dst, struct mmu_root *src, gpa_t at)
{
	struct mmu_table *from = mmu_table_find(m, src, at, 2), *to, *child;
	unsigned i = level_index(at, 2);
	uint64_t e = from ? slot(from, i) : 0;

	to = mmu_table_find(m, dst, at, 2);
	if ((to ? slot(to, i) & MMU_ADDR : 0) == (e & MMU_ADDR))
		return 0;
	/* Held before dst's path is broken: it may be part of what is copied. */
	child = is_empty(m, e) ? NULL : linked(m, e);
	if (child)
		mmu_table_get(child);
	to = mmu_table_own(m, dst, at, 2);
	if (!to) {
		if (child)
			mmu_table_put(m, child);
		return MMU_NO_MEMORY;
	}
	if (child)
		mmu_protect_slot(m, mmu_table_find(m, src, at, 2), i);
	mmu_set_slot(m, to, i, child ? write_protected(m, make_link(m, child)) : 0);
	return 0;
}

static bool bit(const uint64_t bitmap[8], unsigned i)
{
	return bitmap[i / 64] >> (i % 64) & 1;
}

/* All leaves there, their frames in a row and alike. */
static bool is_linear(const struct mmu *m, const struct mmu_table *t)
{
	uint64_t first = slot(t, 0);

	for (unsigned i = 0; i < MMU_SLOTS; i++)
		if (is_empty(m, first) || slot(t, i) != first + i * MMU_PAGE_SIZE)
			return false;
	return true;
}

int mmu_overlay_span(struct mmu *m, struct mmu_root *root, gpa_t at, const uint64_t bitmap[8],
	const uint64_t frame[MMU_SLOTS], struct mmu_attr attr)
{
	struct mmu_table *pd = mmu_table_own(m, root, at, 2), *t, *old = NULL;
	unsigned at_pd = level_index(at, 2);

	if (!pd)
		return MMU_NO_MEMORY;
	t = mmu_table_new(m, 1);
	if (!t)
		return MMU_NO_MEMORY;
	if (!is_empty(m, slot(pd, at_pd)))
		old = linked(m, slot(pd, at_pd));
	for (unsigned i = 0; i < MMU_SLOTS; i++) {
		uint64_t e = old ? slot(old, i) : 0;

		if (bit(bitmap, i)) {
			e = make_leaf(m, frame[i], attr);
		} else if (!is_empty(m, e)) {
			m->ops->get_frames(m->ctx, frame_of(e), 1);
			/* Where the old table lives on, both name this frame now. */
			if (old->refs > 1)
				mmu_protect_slot(m, old, i);
			e = slot(old, i);
		}
		atomic_store_explicit(&t->slot[i], e, memory_order_relaxed);
		t->used = (uint16_t)(t->used + !is_empty(m, e));
	}
	t->linear = is_linear(m, t);
	m->breaks += old && old->refs > 1;
	mmu_set_slot(m, pd, at_pd, make_link(m, t));
	return 0;
}
