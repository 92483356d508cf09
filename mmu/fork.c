// SPDX-License-Identifier: Apache-2.0
/* Forks of address spaces and of single spans. Leaves are read only where a PTE table is copied. */
#include "mmu/walk.h"

/* No link leads to the top table whose W could be cleared. So W is cleared in the links in it. */
static void share_top(struct mmu *m, struct mmu_copy *copy, struct mmu_table *top)
{
	for (unsigned i = 0, left = used_of(top); left; i++) {
		left -= !is_empty(m, slot(top, i));
		copy->protected |= mmu_protect_slot(m, top, i);
	}
	mmu_table_get(m, top);
}

int mmu_fork(struct mmu *m, struct mmu_root *src, unsigned share, struct mmu_root *dst)
{
	struct mmu_copy copy = {
		.m = m,
		.share = share,
		.region = src->region,
		.end = src->region + src->n_regions,
	};
	struct mmu_table *top, *fresh = NULL;
	struct mmu_change c;
	int r = 0;

	mmu_change_start(&c, m, src);
	mmu_root_lock(m, src, true);
	top = top_of(src);
	if (mmu_shareable(&copy, top, 0)) {
		share_top(m, &copy, top);
	} else {
		fresh = mmu_table_new(m, MMU_LEVELS);
		r = fresh ? mmu_table_copy(&copy, top, fresh, 0) : MMU_NO_MEMORY;
	}
	if (copy.protected)
		mmu_due_root(&c, false);
	mmu_change_finish(&c);
	mmu_root_unlock(m, src, true);
	if (r) {
		if (fresh)
			mmu_table_put(m, fresh);
		return r;
	}
	count_add(m, &m->shares, 1);
	*dst = (struct mmu_root){ .region = src->region, .n_regions = src->n_regions };
	atomic_init(&dst->top, fresh ? fresh : top);
	return 0;
}

/* Returns the PD table of `at`, made the root's own, for a change of the span's slot. */
static int own_pd(struct mmu_change *c, gpa_t at, struct mmu_table **pd)
{
	struct mmu_table *t;
	int r = mmu_own_top(c, &t);

	while (!r && t->level > 2)
		r = mmu_own_child(
			c, t, level_index(at.v, t->level), at.v & ~(level_size(t->level) - 1), &t);
	*pd = t;
	return r;
}

/* Unlinks tables on the way to a span that are empty after a failed or empty change. */
static void prune_span(struct mmu_change *c, gpa_t at)
{
	struct mmu_walk w = { .m = c->m, .at = at.v, .end = at.v + MMU_SPAN_SIZE };

	mmu_change_finish(c);
	mmu_change_start(&w.c, c->m, c->root);
	mmu_prune(&w);
	mmu_change_finish(&w.c);
}

/* How a root maps a span: by slot i of t. If that is a larger leaf or empty, t may be above
 * level 2. */
struct span {
	struct mmu_table *t;
	unsigned i;
	uint64_t e; /* what maps the span, as an entry of level 2 */
};

static struct span find_span(const struct mmu *m, const struct mmu_root *root, gpa_t at)
{
	struct span s = { .t = top_of(root) };

	for (;;) {
		s.i = level_index(at.v, s.t->level);
		s.e = slot(s.t, s.i);
		if (s.t->level == 2 || is_empty(m, s.e))
			return s;
		if (!is_link(s.e, s.t->level)) {
			s.e = piece_of(m, s.e, s.t->level, level_index(at.v, 2));
			return s;
		}
		s.t = linked(m, s.e);
	}
}

static bool has_pins(const struct mmu *m, uint64_t e)
{
	return !is_empty(m, e) && is_link(e, 2) && linked(m, e)->pins;
}

/* Takes a reference to what src has for a span. Write-protects it in src, and returns a
 * write-protected entry for dst. */
static uint64_t take_span(struct mmu_change *src, const struct span *s, gpa_t at)
{
	struct mmu *m = src->m;

	if (is_empty(m, s->e))
		return 0;
	if (is_link(s->e, 2))
		mmu_table_get(m, linked(m, s->e));
	else
		m->ops->get_frames(m->ctx, frame_of(s->e), MMU_SLOTS);
	if (mmu_protect_slot(m, s->t, s->i)) {
		uint64_t size = level_size(s->t->level), base = at.v & ~(size - 1);

		mmu_due_range(src, base, base + size);
	}
	return write_protected(m, s->e);
}

static void give_back(struct mmu *m, uint64_t e)
{
	if (is_empty(m, e))
		return;
	if (is_link(e, 2))
		mmu_table_put(m, linked(m, e));
	else
		m->ops->put_frames(m->ctx, frame_of(e), MMU_SLOTS);
}

static int share_span(struct mmu_change *dst, struct mmu_change *src, gpa_t at)
{
	struct mmu *m = dst->m;
	struct span from = find_span(m, src->root, at), to = find_span(m, dst->root, at);
	struct mmu_table *pd;
	uint64_t e;
	int r;

	if (has_pins(m, from.e) || has_pins(m, to.e))
		return MMU_BUSY;
	if (!((from.e ^ to.e) & ~m->format->write))
		return 0;
	/* Taken before dst's path is broken: src's slot may be in a table that dst shares. */
	e = take_span(src, &from, at);
	r = own_pd(dst, at, &pd);
	if (r)
		give_back(m, e);
	else
		mmu_set_slot(dst, pd, level_index(at.v, 2), at.v, e);
	if (r || is_empty(m, e))
		prune_span(dst, at);
	return r;
}

int mmu_share_span(struct mmu *m, struct mmu_root *dst, struct mmu_root *src, gpa_t at)
{
	struct mmu_root *first = dst < src ? dst : src, *second = dst < src ? src : dst;
	struct mmu_change d, s;
	int r;

	if (at.v % MMU_SPAN_SIZE || at.v >= level_size(MMU_LEVELS + 1))
		return MMU_INVALID;
	if (dst == src)
		return 0;
	mmu_change_start(&d, m, dst);
	mmu_change_start(&s, m, src);
	mmu_root_lock(m, first, true);
	mmu_root_lock(m, second, true);
	r = share_span(&d, &s, at);
	mmu_change_finish(&s);
	mmu_change_finish(&d);
	mmu_root_unlock(m, second, true);
	mmu_root_unlock(m, first, true);
	return r;
}

/* ---- overlays ---- */

static bool bit(const uint64_t bitmap[MMU_BITMAP], unsigned i)
{
	return bitmap[i / 64] >> (i % 64) & 1;
}

/* Fills t with what `old` maps, except that pages in the bitmap get the overlay's leaves. */
static void overlay(struct mmu *m, struct mmu_table *t, uint64_t old,
	const uint64_t bitmap[MMU_BITMAP], const uint64_t frame[MMU_SLOTS], uint64_t bits)
{
	struct mmu_table *from = !is_empty(m, old) && is_link(old, 2) ? linked(m, old) : NULL;
	unsigned used = 0;

	for (unsigned i = 0; i < MMU_SLOTS; i++) {
		uint64_t e = from ? slot(from, i) : piece_of(m, old, 2, i);

		if (bit(bitmap, i)) {
			e = make_leaf(frame[i], bits);
		} else if (!is_empty(m, e)) {
			m->ops->get_frames(m->ctx, frame_of(e), 1);
			/* The old table stays in use by others: both tables name this frame now. */
			if (from && refs_of(from) > 1) {
				mmu_protect_slot(m, from, i);
				e = write_protected(m, e);
			}
		}
		atomic_store_explicit(&t->slot[i], e, memory_order_relaxed);
		used += !is_empty(m, e);
	}
	set_used(t, used);
	set_linear(t, mmu_looks_linear(m, t));
}

/* Copies the A and D bits that the processor has set in the old leaves after they were copied and
 * before the flush: a harvest must not miss a written page. `last`: the replaced entry. */
static void catch_up(
	struct mmu *m, struct mmu_table *t, uint64_t last, const uint64_t bitmap[MMU_BITMAP])
{
	for (unsigned i = 0; i < MMU_SLOTS; i++) {
		uint64_t e = is_link(last, 2) ? slot(linked(m, last), i) : last;

		if (!bit(bitmap, i) && !is_empty(m, e))
			atomic_fetch_or(&t->slot[i], e & (m->format->accessed | m->format->dirty));
	}
}

static int overlay_span(struct mmu_change *c, gpa_t at, const uint64_t bitmap[MMU_BITMAP],
	const uint64_t frame[MMU_SLOTS], uint64_t bits)
{
	struct mmu *m = c->m;
	struct mmu_table *pd, *t;
	uint64_t old;
	int r;

	if (has_pins(m, find_span(m, c->root, at).e))
		return MMU_BUSY;
	t = mmu_table_new(m, 1);
	if (!t)
		return MMU_NO_MEMORY;
	r = own_pd(c, at, &pd);
	if (r) {
		mmu_table_put(m, t);
		prune_span(c, at);
		return r;
	}
	old = slot(pd, level_index(at.v, 2));
	overlay(m, t, old, bitmap, frame, bits);
	if (!is_empty(m, old) && is_link(old, 2) && refs_of(linked(m, old)) > 1)
		count_add(m, &m->breaks, 1);
	old = mmu_set_slot(c, pd, level_index(at.v, 2), at.v, make_link(m, t));
	mmu_change_flush(c);
	if (!is_empty(m, old))
		catch_up(m, t, old, bitmap);
	return 0;
}

int mmu_overlay_span(struct mmu *m, struct mmu_root *root, gpa_t at,
	const uint64_t bitmap[MMU_BITMAP], const uint64_t frame[MMU_SLOTS], struct mmu_attr attr)
{
	struct mmu_change c;
	uint64_t bits;
	int r;

	if (at.v % MMU_SPAN_SIZE || at.v >= level_size(MMU_LEVELS + 1) ||
		!m->format->leaf(attr, 1, &bits))
		return MMU_INVALID;
	mmu_change_start(&c, m, root);
	mmu_root_lock(m, root, true);
	r = overlay_span(&c, at, bitmap, frame, bits);
	mmu_change_finish(&c);
	mmu_root_unlock(m, root, true);
	return r;
}
