// SPDX-License-Identifier: Apache-2.0
#include "mmu/table.h"

#include "mmu/trap.h"

struct mmu_table *mmu_table_new(struct mmu *m, unsigned level)
{
	struct mmu_table *t = m->ops->alloc_table(m->ctx);

	if (!t)
		return NULL;
	t->refs = 1;
	t->used = 0;
	t->level = (uint8_t)level;
	t->linear = false;
	m->tables[level]++;
	return t;
}

void mmu_table_get(struct mmu_table *t)
{
	mmu_trap_unless(t->refs && t->refs != UINT32_MAX);
	t->refs++;
}

/* Gives up all leaves of a PTE table, frames in a row together. */
static void put_leaves(struct mmu *m, struct mmu_table *t)
{
	uint64_t first = 0, n = 0;

	for (unsigned i = 0; i < MMU_SLOTS; i++) {
		uint64_t e = slot(t, i);

		if (is_empty(m, e))
			continue;
		if (n && frame_of(e) == first + n) {
			n++;
			continue;
		}
		if (n)
			m->ops->put_frames(m->ctx, first, n);
		first = frame_of(e);
		n = 1;
	}
	if (n)
		m->ops->put_frames(m->ctx, first, n);
}

void mmu_table_put(struct mmu *m, struct mmu_table *t)
{
	mmu_trap_unless(t->refs);
	if (--t->refs)
		return;
	if (t->level == 1)
		put_leaves(m, t);
	else
		for (unsigned i = 0; i < MMU_SLOTS; i++)
			if (!is_empty(m, slot(t, i)))
				mmu_table_put(m, linked(m, slot(t, i)));
	m->tables[t->level]--;
	m->ops->free_table(m->ctx, t);
}

void mmu_set_slot(struct mmu *m, struct mmu_table *t, unsigned i, uint64_t e)
{
	uint64_t old = slot(t, i);
	bool same = !is_empty(m, old) && !is_empty(m, e) && is_link(old) == is_link(e) &&
		    frame_of(old) == frame_of(e);

	mmu_trap_unless(t->refs == 1);
	t->used = (uint16_t)(t->used + !is_empty(m, e) - !is_empty(m, old));
	t->linear = false;
	atomic_store_explicit(&t->slot[i], e, memory_order_release);
	if (same || is_empty(m, old))
		return;
	if (is_link(old))
		mmu_table_put(m, linked(m, old));
	else
		m->ops->put_frames(m->ctx, frame_of(old), 1);
}

void mmu_protect_slot(struct mmu *m, struct mmu_table *t, unsigned i)
{
	uint64_t e = slot(t, i);

	if (e & m->format->write)
		atomic_store_explicit(&t->slot[i], write_protected(m, e), memory_order_release);
}

/* One slot of a copy. The copy is not linked yet: plain stores, and no reference of it to give up.
 */
static int copy_slot(
	struct mmu *m, struct mmu_table *from, struct mmu_table *to, unsigned i, unsigned share)
{
	uint64_t e = slot(from, i);
	struct mmu_table *child;

	if (is_empty(m, e))
		return 0;
	if (!is_link(e)) {
		if (!from->linear)
			m->ops->get_frames(m->ctx, frame_of(e), 1);
	} else if ((child = linked(m, e))->level <= share) {
		mmu_table_get(child);
	} else {
		child = mmu_table_copy(m, child, share);
		if (!child)
			return MMU_NO_MEMORY;
		atomic_store_explicit(&to->slot[i], make_link(m, child), memory_order_relaxed);
		to->used++;
		return 0;
	}
	mmu_protect_slot(m, from, i);
	atomic_store_explicit(&to->slot[i], write_protected(m, e), memory_order_relaxed);
	to->used++;
	return 0;
}

struct mmu_table *mmu_table_copy(struct mmu *m, struct mmu_table *t, unsigned share)
{
	struct mmu_table *n = mmu_table_new(m, t->level);

	if (!n)
		return NULL;
	if (t->linear)
		m->ops->get_frames(m->ctx, frame_of(slot(t, 0)), MMU_SLOTS);
	for (unsigned i = 0; i < MMU_SLOTS; i++)
		if (copy_slot(m, t, n, i, share)) {
			mmu_table_put(m, n);
			return NULL;
		}
	n->linear = t->linear;
	return n;
}

/* The child in slot i, for this table's owner alone. */
static struct mmu_table *own_child(struct mmu *m, struct mmu_table *t, unsigned i)
{
	uint64_t e = slot(t, i);
	struct mmu_table *child;

	if (is_empty(m, e)) {
		child = mmu_table_new(m, t->level - 1u);
		if (child)
			mmu_set_slot(m, t, i, make_link(m, child));
		return child;
	}
	child = linked(m, e);
	if (child->refs == 1) {
		if (!(e & m->format->write)) {
			m->reuses++;
			mmu_set_slot(m, t, i, make_link(m, child));
		}
		return child;
	}
	child = mmu_table_copy(m, child, MMU_LEVELS);
	if (child) {
		m->breaks++;
		mmu_set_slot(m, t, i, make_link(m, child));
	}
	return child;
}

struct mmu_table *mmu_table_own(struct mmu *m, struct mmu_root *root, gpa_t at, unsigned level)
{
	struct mmu_table *t = root->top;

	if (t->refs > 1) {
		t = mmu_table_copy(m, t, MMU_LEVELS);
		if (!t)
			return NULL;
		m->breaks++;
		mmu_table_put(m, root->top);
		root->top = t;
	}
	while (t && t->level > level)
		t = own_child(m, t, level_index(at, t->level));
	return t;
}

struct mmu_table *mmu_table_find(
	const struct mmu *m, const struct mmu_root *root, gpa_t at, unsigned level)
{
	struct mmu_table *t = root->top;

	while (t->level > level) {
		uint64_t e = slot(t, level_index(at, t->level));

		if (is_empty(m, e))
			return NULL;
		t = linked(m, e);
	}
	return t;
}
