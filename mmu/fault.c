// SPDX-License-Identifier: Apache-2.0
/* Faults: break the tables on the way down, then copy the page. */
#include "mmu/walk.h"

/* Returns the leaf that maps `at` now, and its *level; 0: there is none. */
static uint64_t find_leaf(
	const struct mmu *m, const struct mmu_root *root, uint64_t at, unsigned *level)
{
	struct mmu_table *t = top_of(root);

	for (;;) {
		uint64_t e = slot(t, level_index(at, t->level));

		if (is_empty(m, e))
			return 0;
		*level = t->level;
		if (!is_link(e, t->level))
			return e;
		t = linked(m, e);
	}
}

/* Returns the table with the leaf of `at`, after making all tables on the path the root's own. A
 * large leaf with shared frames is split: copying a page of 4 KiB costs the guest less than copying
 * 2 MiB. */
static int own_path(struct mmu_change *c, uint64_t at, struct mmu_table **out)
{
	struct mmu *m = c->m;
	struct mmu_table *t;
	int r = mmu_own_top(c, &t);

	while (!r) {
		unsigned i = level_index(at, t->level);
		uint64_t e = slot(t, i), base = at & ~(level_size(t->level) - 1);

		*out = t;
		if (t->level == 1)
			return 0;
		if (is_empty(m, e))
			return MMU_AGAIN;
		if (!is_link(e, t->level) &&
			(is_writable(m, e) || (m->ops->frames_shared &&
						      !m->ops->frames_shared(m->ctx, frame_of(e),
							      level_pages(t->level)))))
			return 0;
		r = mmu_own_child(c, t, i, base, &t);
	}
	return r;
}

/* Returns W if the leaf allows writes, otherwise 0. */
static uint64_t write_of(const struct mmu *m, uint64_t leaf)
{
	return leaf & MMU_INTENT ? m->format->write : 0;
}

/* Copies the page that e maps, the entry for `at` in t. Called with t locked; releases the lock
 * during the copy. */
static int copy_page(struct mmu_change *c, struct mmu_table *t, uint64_t at, uint64_t e)
{
	struct mmu *m = c->m;
	unsigned i = level_index(at, 1);
	uint64_t copy, now;
	int r;

	if (!m->ops->copy_frame)
		return MMU_DENIED;
	/* The reference keeps the frame from being reused while it is read. */
	m->ops->get_frames(m->ctx, frame_of(e), 1);
	t->held++;
	mmu_table_unlock(m, t);
	r = m->ops->copy_frame(m->ctx, frame_of(e), &copy);
	if (mmu_change_full(c))
		mmu_change_finish(c);
	mmu_table_lock(m, t);
	t->held--;
	now = slot(t, i);
	if (!r && ((now ^ e) & ~(m->format->accessed | m->format->dirty))) {
		m->ops->put_frames(m->ctx, copy, 1);
		r = MMU_AGAIN;
	}
	if (!r)
		mmu_set_slot(c, t, i, at, make_leaf(copy, (now & ~MMU_ADDR) | write_of(m, e)));
	m->ops->put_frames(m->ctx, frame_of(e), 1);
	return r;
}

/* Makes the frame of the leaf in t the root's own, and sets W if the leaf allows writes. The path
 * to t is the root's own already. */
static int open_leaf(struct mmu_change *c, struct mmu_table *t, uint64_t at, uint64_t *frame)
{
	struct mmu *m = c->m;
	unsigned i = level_index(at, t->level);
	uint64_t e, base = at & ~(level_size(t->level) - 1);
	int r = 0;

	mmu_table_lock(m, t);
	e = slot(t, i);
	if (atomic_load(&t->dead) || !is_leaf(m, e, t->level)) {
		r = MMU_AGAIN;
	} else if (!is_writable(m, e)) {
		if (m->ops->frames_shared &&
			!m->ops->frames_shared(m->ctx, frame_of(e), level_pages(t->level)))
			mmu_set_bits(c, t, i, base, write_of(m, e), 0);
		else if (t->level > 1)
			r = MMU_AGAIN; /* the frames have become shared meanwhile */
		else
			r = copy_page(c, t, base, e);
	}
	if (!r)
		*frame = frame_of(slot(t, i)) + (at - base) / MMU_PAGE_SIZE;
	mmu_table_unlock(m, t);
	return r;
}

static bool is_allowed(const struct mmu *m, uint64_t leaf, unsigned access)
{
	struct mmu_attr a = m->format->attr(leaf);

	return access == MMU_READ      ? a.r
	       : access == MMU_EXECUTE ? a.x
	       : access == MMU_WRITE   ? leaf & MMU_INTENT
				       : true;
}

static int fault(struct mmu_change *c, uint64_t at, unsigned access, uint64_t *frame)
{
	struct mmu_table *t;
	unsigned level;
	uint64_t e = find_leaf(c->m, c->root, at, &level);
	int r;

	if (!e)
		return MMU_NOT_MAPPED;
	if (!is_allowed(c->m, e, access))
		return MMU_DENIED;
	if (access == MMU_READ || access == MMU_EXECUTE) {
		*frame = frame_of(e) + (at & (level_size(level) - 1)) / MMU_PAGE_SIZE;
		return 0;
	}
	r = own_path(c, at, &t);
	return r ? r : open_leaf(c, t, at, frame);
}

/* `access` may also be OWN: make the frame the root's own, whatever the leaf allows. */
#define OWN (MMU_EXECUTE + 1u)
static int fault_locked(struct mmu_change *c, uint64_t at, unsigned access, uint64_t *frame)
{
	struct mmu_cpu *cpu = mmu_walk_begin(c->m);
	int r;

	do
		r = fault(c, at, access, frame);
	while (r == MMU_AGAIN);
	mmu_walk_end(cpu);
	return r;
}

int mmu_fault(
	struct mmu *m, struct mmu_root *root, gpa_t at, enum mmu_access access, uint64_t *frame)
{
	struct mmu_change c;
	uint64_t where;
	int r;

	if (at.v >= level_size(MMU_LEVELS + 1))
		return MMU_NOT_MAPPED;
	mmu_change_start(&c, m, root);
	mmu_root_lock(m, root, false);
	r = fault_locked(&c, at.v, access, &where);
	mmu_change_finish(&c);
	mmu_root_unlock(m, root, false);
	if (!r && frame)
		*frame = where;
	return r;
}

int mmu_touch_write(struct mmu *m, struct mmu_root *root, gpa_t at, uint64_t *frame)
{
	return mmu_fault(m, root, at, MMU_WRITE, frame);
}

/* ---- pins ---- */

static int plan_pin(struct mmu_walk *w, unsigned level, uint64_t e, bool covered)
{
	if (is_empty(w->m, e))
		return MMU_NOT_MAPPED;
	if (level > 1)
		return MMU_INTO;
	return w->pass == MMU_PREPARE && (e & MMU_PIN) ? MMU_BUSY : MMU_ACT;
}

static int act_pin(struct mmu_walk *w, struct mmu_table *t, unsigned i)
{
	mmu_set_bits(&w->c, t, i, w->here, MMU_PIN, 0);
	t->pins++;
	return 1;
}

static int plan_unpin(struct mmu_walk *w, unsigned level, uint64_t e, bool covered)
{
	if (is_empty(w->m, e) || (level == 1 && !(e & MMU_PIN)) ||
		(level > 1 && (!is_link(e, level) || !linked(w->m, e)->pins)))
		return w->pass == MMU_PREPARE ? MMU_INVALID : MMU_OVER;
	return level > 1 ? MMU_INTO : MMU_ACT;
}

static int act_unpin(struct mmu_walk *w, struct mmu_table *t, unsigned i)
{
	mmu_set_bits(&w->c, t, i, w->here, 0, MMU_PIN);
	t->pins--;
	return 1;
}

/* Sets the pins of t to the sum of the pins of the tables below. */
static void add_up_pins(struct mmu_walk *w, struct mmu_table *t, unsigned i)
{
	t->pins = 0;
	for (unsigned k = 0; k < MMU_SLOTS; k++) {
		uint64_t e = slot(t, k);

		if (!is_empty(w->m, e) && is_link(e, t->level))
			t->pins += linked(w->m, e)->pins;
	}
}

static int change_pins(struct mmu *m, struct mmu_root *root, gpa_t at, uint64_t n,
	const struct mmu_visitor *v, bool own)
{
	struct mmu_walk w = { .m = m, .v = v };
	int r = 0;

	if (mmu_range(&w, at, n) || !n)
		return n ? MMU_INVALID : 0;
	mmu_change_start(&w.c, m, root);
	mmu_root_lock(m, root, true);
	/* The device may write to a pinned page, so the frame must be the root's own first. */
	for (uint64_t here = w.at, frame; own && here < w.end && !r; here += MMU_PAGE_SIZE)
		r = fault_locked(&w.c, here, OWN, &frame);
	if (!r)
		r = mmu_change_locked(&w);
	mmu_change_finish(&w.c);
	mmu_root_unlock(m, root, true);
	return r;
}

int mmu_pin(struct mmu *m, struct mmu_root *root, gpa_t at, uint64_t n)
{
	static const struct mmu_visitor pin = {
		.plan = plan_pin, .act = act_pin, .back = add_up_pins, .checks_leaves = true
	};

	if (!m->ops->copy_frame)
		return MMU_INVALID;
	return change_pins(m, root, at, n, &pin, true);
}

int mmu_unpin(struct mmu *m, struct mmu_root *root, gpa_t at, uint64_t n)
{
	static const struct mmu_visitor unpin = {
		.plan = plan_unpin, .act = act_unpin, .back = add_up_pins, .checks_leaves = true
	};

	return change_pins(m, root, at, n, &unpin, false);
}
