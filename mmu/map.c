// SPDX-License-Identifier: Apache-2.0
/* Address spaces: what is mapped in them. */
#include "mmu/table.h"

void mmu_init(struct mmu *m, const struct mmu_format *format, const struct mmu_ops *ops, void *ctx)
{
	*m = (struct mmu){ .format = format, .ops = ops, .ctx = ctx };
}

int mmu_root_init(struct mmu *m, struct mmu_root *root)
{
	struct mmu_table *t = mmu_table_new(m, MMU_LEVELS);

	if (!t)
		return MMU_NO_MEMORY;
	root->top = t;
	return 0;
}

void mmu_root_put(struct mmu *m, struct mmu_root *root)
{
	mmu_table_put(m, root->top);
	root->top = NULL;
}

static bool bad_range(gpa_t at, uint64_t n)
{
	uint64_t pages = 1ull << (9 * MMU_LEVELS);

	return at.v % MMU_PAGE_SIZE || at.v / MMU_PAGE_SIZE >= pages ||
	       n > pages - at.v / MMU_PAGE_SIZE;
}

/* How many of n pages from `at` on lie in its span. */
static uint64_t in_span(gpa_t at, uint64_t n)
{
	uint64_t left = (MMU_SPAN_SIZE - at.v % MMU_SPAN_SIZE) / MMU_PAGE_SIZE;

	return n < left ? n : left;
}

/* A whole span, its table filled aside and published with one store. */
static int map_span(
	struct mmu *m, struct mmu_root *root, gpa_t at, uint64_t frame, struct mmu_attr attr)
{
	struct mmu_table *pd = mmu_table_own(m, root, at, 2), *t;

	if (!pd)
		return MMU_NO_MEMORY;
	t = mmu_table_new(m, 1);
	if (!t)
		return MMU_NO_MEMORY;
	for (unsigned i = 0; i < MMU_SLOTS; i++)
		atomic_store_explicit(
			&t->slot[i], make_leaf(m, frame + i, attr), memory_order_relaxed);
	t->used = MMU_SLOTS;
	t->linear = true;
	mmu_set_slot(m, pd, level_index(at, 2), make_link(m, t));
	return 0;
}

static int map_pages(struct mmu *m, struct mmu_root *root, gpa_t at, uint64_t n, uint64_t frame,
	struct mmu_attr attr)
{
	struct mmu_table *t;

	if (n == MMU_SLOTS)
		return map_span(m, root, at, frame, attr);
	t = mmu_table_own(m, root, at, 1);
	if (!t)
		return MMU_NO_MEMORY;
	for (uint64_t i = 0; i < n; i++)
		mmu_set_slot(m, t, level_index(at, 1) + (unsigned)i, make_leaf(m, frame + i, attr));
	return 0;
}

int mmu_map(struct mmu *m, struct mmu_root *root, gpa_t at, uint64_t n, uint64_t frame,
	struct mmu_attr attr)
{
	uint64_t done = 0;

	if (bad_range(at, n) || !(attr.r || attr.w || attr.x))
		return MMU_BAD_ADDRESS;
	while (done < n) {
		gpa_t here = gpa(at.v + done * MMU_PAGE_SIZE);
		uint64_t k = in_span(here, n - done);

		if (map_pages(m, root, here, k, frame + done, attr)) {
			/* The caller keeps his references, so those that were taken over are given
			 * back. */
			m->ops->get_frames(m->ctx, frame, done);
			mmu_unmap(m, root, at, done);
			return MMU_NO_MEMORY;
		}
		done += k;
	}
	return 0;
}

/* Takes out tables on the way to `at` that have become empty. */
static void prune(struct mmu *m, struct mmu_root *root, gpa_t at)
{
	for (unsigned level = 2; level <= MMU_LEVELS; level++) {
		struct mmu_table *t = mmu_table_find(m, root, at, level);
		unsigned i = level_index(at, level);

		if (!t || is_empty(m, slot(t, i)))
			continue;
		if (linked(m, slot(t, i))->used)
			return;
		mmu_set_slot(m, t, i, 0);
	}
}

int mmu_unmap(struct mmu *m, struct mmu_root *root, gpa_t at, uint64_t n)
{
	if (bad_range(at, n))
		return MMU_BAD_ADDRESS;
	while (n) {
		uint64_t k = in_span(at, n);
		bool whole = k == MMU_SLOTS;

		if (mmu_table_find(m, root, at, 1)) {
			struct mmu_table *t = mmu_table_own(m, root, at, whole ? 2 : 1);

			if (!t)
				return MMU_NO_MEMORY;
			for (uint64_t i = 0; i < (whole ? 1 : k); i++)
				mmu_set_slot(m, t, level_index(at, t->level) + (unsigned)i, 0);
			prune(m, root, at);
		}
		at = gpa(at.v + k * MMU_PAGE_SIZE);
		n -= k;
	}
	return 0;
}

int mmu_translate(struct mmu *m, const struct mmu_root *root, gpa_t at, uint64_t *frame,
	struct mmu_attr *attr)
{
	struct mmu_attr all = { true, true, true, 0 };
	struct mmu_table *t = root->top;

	for (;;) {
		uint64_t e = slot(t, level_index(at, t->level));
		struct mmu_attr a;

		if (is_empty(m, e))
			return MMU_NOT_MAPPED;
		a = m->format->attr(e);
		all = (struct mmu_attr){ all.r && a.r, all.w && a.w, all.x && a.x, a.memory_type };
		if (!is_link(e)) {
			*frame = frame_of(e);
			*attr = all;
			return 0;
		}
		t = linked(m, e);
	}
}

/* Extends a run through one PTE table from slot i on. Returns where it ends. */
static unsigned extend(
	const struct mmu *m, const struct mmu_table *t, unsigned i, struct mmu_run *run)
{
	if (t->linear && frame_of(slot(t, i)) == run->frame + run->n_pages) {
		run->n_pages += MMU_SLOTS - i;
		return MMU_SLOTS;
	}
	for (; i < MMU_SLOTS; i++, run->n_pages++)
		if (is_empty(m, slot(t, i)) || frame_of(slot(t, i)) != run->frame + run->n_pages)
			break;
	return i;
}

bool mmu_next_run(
	struct mmu *m, const struct mmu_root *root, gpa_t at, gpa_t end, struct mmu_run *run)
{
	struct mmu_run r = { .n_pages = 0 };

	while (at.v < end.v) {
		struct mmu_table *t = mmu_table_find(m, root, at, 1);
		unsigned i = level_index(at, 1);

		if (!t) {
			if (r.n_pages)
				break;
			at = gpa((at.v | (MMU_SPAN_SIZE - 1)) + 1);
			continue;
		}
		while (!r.n_pages && i < MMU_SLOTS && is_empty(m, slot(t, i)))
			i++;
		if (!r.n_pages && i < MMU_SLOTS)
			r = (struct mmu_run){ gpa((at.v & ~(MMU_SPAN_SIZE - 1)) +
						      i * MMU_PAGE_SIZE),
				frame_of(slot(t, i)), 0 };
		if (i < MMU_SLOTS && extend(m, t, i, &r) < MMU_SLOTS)
			break;
		at = gpa((at.v | (MMU_SPAN_SIZE - 1)) + 1);
	}
	if (!r.n_pages || r.at.v >= end.v)
		return false;
	if (r.n_pages > (end.v - r.at.v) / MMU_PAGE_SIZE)
		r.n_pages = (end.v - r.at.v) / MMU_PAGE_SIZE;
	*run = r;
	return true;
}
