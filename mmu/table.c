// SPDX-License-Identifier: Apache-2.0
/* Tables and their counts. */
#include "mmu/table.h"

#include "mmu/seal.h"
#include "mmu/trap.h"

struct mmu_table *mmu_table_new(struct mmu *m, unsigned level)
{
	struct mmu_table *t = m->ops->alloc_table(m->ctx);

	if (!t)
		return NULL;
	atomic_store_explicit(&t->refs, 1, memory_order_relaxed);
	atomic_store_explicit(&t->walkers, 1, memory_order_relaxed);
	atomic_store_explicit(&t->dead, false, memory_order_relaxed);
	atomic_store_explicit(&t->lock, 0, memory_order_relaxed);
	atomic_store_explicit(&t->in_use, 0, memory_order_relaxed);
	t->pins = 0;
	t->held = 0;
	set_used(t, 0);
	t->level = (uint8_t)level;
	set_linear(t, false);
	count_add(m, &m->tables[level], 1);
	return t;
}

void mmu_table_get(struct mmu *m, struct mmu_table *t)
{
	uint32_t refs;

	mmu_seal(m, t);
	if (is_serial(m)) {
		refs = atomic_load_explicit(&t->refs, memory_order_relaxed);
		atomic_store_explicit(&t->refs, refs + 1, memory_order_relaxed);
	} else {
		refs = atomic_fetch_add_explicit(&t->refs, 1, memory_order_acq_rel);
	}
	mmu_trap_unless(refs && refs != UINT32_MAX);
}

/* True: that was the last reference. */
static bool drop_ref(struct mmu *m, struct mmu_table *t)
{
	uint32_t refs;

	if (is_serial(m)) {
		refs = atomic_load_explicit(&t->refs, memory_order_relaxed);
		atomic_store_explicit(&t->refs, refs - 1, memory_order_relaxed);
	} else {
		refs = atomic_fetch_sub_explicit(&t->refs, 1, memory_order_acq_rel);
	}
	mmu_trap_unless(refs);
	return refs == 1;
}

/* Drops the references of all leaves of a table, with one call for each run of frames. */
static void put_leaves(struct mmu *m, struct mmu_table *t)
{
	uint64_t first = 0, n = 0, each = level_pages(t->level);

	for (unsigned i = 0; i < MMU_SLOTS; i++) {
		uint64_t e = slot(t, i);

		if (!is_leaf(m, e, t->level))
			continue;
		if (n && frame_of(e) == first + n) {
			n += each;
			continue;
		}
		if (n)
			m->ops->put_frames(m->ctx, first, n);
		first = frame_of(e);
		n = each;
	}
	if (n)
		m->ops->put_frames(m->ctx, first, n);
}

void mmu_table_put(struct mmu *m, struct mmu_table *t)
{
	mmu_seal_verify(m, t);
	if (!drop_ref(m, t))
		return;
	if (used_of(t))
		put_leaves(m, t);
	for (unsigned i = 0; t->level > 1 && used_of(t) && i < MMU_SLOTS; i++) {
		uint64_t e = slot(t, i);

		if (!is_empty(m, e) && is_link(e, t->level))
			mmu_table_put(m, linked(m, e));
	}
	count_add(m, &m->tables[t->level], (uint64_t)-1);
	atomic_store_explicit(&t->dead, true, memory_order_release);
	mmu_retire(m, t);
}

bool mmu_protect_slot(struct mmu *m, struct mmu_table *t, unsigned i)
{
	uint64_t e = slot(t, i);

	if (!is_writable(m, e))
		return false;
	if (is_link(e, t->level))
		/* A plain store is enough: another thread can only store the same value here. */
		atomic_store_explicit(&t->slot[i], write_protected(m, e), memory_order_release);
	else
		atomic_fetch_and(&t->slot[i], ~m->format->write);
	return true;
}

bool mmu_shareable(struct mmu_copy *copy, const struct mmu_table *t, uint64_t at)
{
	if (t->level > copy->share || t->pins)
		return false;
	if (!copy->region)
		return true;
	while (copy->region < copy->end &&
		copy->region->at.v + copy->region->n * MMU_PAGE_SIZE <= at)
		copy->region++;
	return copy->region < copy->end && t->level <= copy->region->share &&
	       copy->region->at.v <= at &&
	       copy->region->at.v + copy->region->n * MMU_PAGE_SIZE >=
		       at + level_size(t->level + 1u);
}

static int copy_leaf(
	struct mmu_copy *copy, struct mmu_table *from, struct mmu_table *to, unsigned i, uint64_t e)
{
	struct mmu *m = copy->m;
	uint64_t frame;

	if (e & MMU_PIN) {
		/* The device keeps writing to the original page, so the copy gets a new frame. */
		int r = m->ops->copy_frame(m->ctx, frame_of(e), &frame);

		if (r)
			return r;
		e = make_leaf(frame, e & ~(MMU_ADDR | MMU_PIN));
	} else {
		if (!is_linear(from))
			m->ops->get_frames(m->ctx, frame_of(e), level_pages(from->level));
		copy->protected |= mmu_protect_slot(m, from, i);
		e = write_protected(m, e);
	}
	atomic_store_explicit(&to->slot[i], e, memory_order_relaxed);
	return 0;
}

static int copy_link(struct mmu_copy *copy, struct mmu_table *from, struct mmu_table *to,
	unsigned i, uint64_t e, uint64_t at)
{
	struct mmu *m = copy->m;
	struct mmu_table *child = linked(m, e), *n;
	int r;

	if (mmu_shareable(copy, child, at)) {
		mmu_table_get(m, child);
		copy->protected |= mmu_protect_slot(m, from, i);
		e = write_protected(m, e);
		atomic_store_explicit(&to->slot[i], e, memory_order_relaxed);
		return 0;
	}
	n = mmu_table_new(m, child->level);
	if (!n)
		return MMU_NO_MEMORY;
	r = mmu_table_copy(copy, child, n, at);
	if (r)
		mmu_table_put(m, n);
	else
		atomic_store_explicit(&to->slot[i], make_link(m, n), memory_order_relaxed);
	return r;
}

int mmu_table_copy(struct mmu_copy *copy, struct mmu_table *from, struct mmu_table *to, uint64_t at)
{
	struct mmu *m = copy->m;
	unsigned level = from->level, used = 0, all = used_of(from);
	int r = 0;

	mmu_seal_verify(m, from);
	if (is_linear(from))
		m->ops->get_frames(m->ctx, frame_of(slot(from, 0)), MMU_SLOTS);
	for (unsigned i = 0; used < all && !r; i++, at += level_size(level)) {
		uint64_t e = slot(from, i);

		if (is_empty(m, e))
			continue;
		if (is_link(e, level))
			r = copy_link(copy, from, to, i, e, at);
		else
			r = copy_leaf(copy, from, to, i, e);
		used += !r;
	}
	set_used(to, used);
	set_linear(to, is_linear(from));
	return r;
}

bool mmu_looks_linear(const struct mmu *m, const struct mmu_table *t)
{
	uint64_t first = frame_of(slot(t, 0));

	for (unsigned i = 0; i < MMU_SLOTS; i++)
		if (is_empty(m, slot(t, i)) || frame_of(slot(t, i)) != first + i)
			return false;
	return true;
}

struct mmu_table *mmu_table_find(
	const struct mmu *m, const struct mmu_root *root, uint64_t at, unsigned level)
{
	struct mmu_table *t = top_of(root);

	while (t->level > level) {
		uint64_t e = slot(t, level_index(at, t->level));

		if (is_empty(m, e) || !is_link(e, t->level))
			return NULL;
		t = linked(m, e);
	}
	return t;
}
