// SPDX-License-Identifier: Apache-2.0
/* Changing tables: the one place for counts and flushes, and the breaks on the way down. */
#include "mmu/seal.h"
#include "mmu/table.h"
#include "mmu/trap.h"

void mmu_due_range(struct mmu_change *c, uint64_t from, uint64_t to)
{
	struct mmu_flush *d = &c->due;

	if (d->kind == MMU_FLUSH_ROOT)
		return;
	if (d->kind == MMU_FLUSH_NOTHING)
		*d = (struct mmu_flush){ MMU_FLUSH_RANGE, gpa(from), gpa(to), false };
	if (from < d->from.v)
		d->from.v = from;
	if (to > d->to.v)
		d->to.v = to;
}

void mmu_due_root(struct mmu_change *c, bool moved)
{
	c->due.kind = MMU_FLUSH_ROOT;
	c->due.moved |= moved;
}

/* Without ops.flush, duties add up in the root. */
static void add_to_root(struct mmu_change *c)
{
	struct mmu_change sum = { .due = c->root->duty };

	if (c->due.kind == MMU_FLUSH_ROOT)
		mmu_due_root(&sum, c->due.moved);
	else
		mmu_due_range(&sum, c->due.from.v, c->due.to.v);
	c->root->duty = sum.due;
}

struct mmu_flush mmu_flush_take(struct mmu_root *root)
{
	struct mmu_flush due = root->duty;

	root->duty = (struct mmu_flush){ .kind = MMU_FLUSH_NOTHING };
	return due;
}

void mmu_change_flush(struct mmu_change *c)
{
	if (c->due.kind == MMU_FLUSH_NOTHING)
		return;
	if (c->m->ops->flush)
		c->m->ops->flush(c->m->ctx, c->root, &c->due);
	else
		add_to_root(c);
	c->due = (struct mmu_flush){ .kind = MMU_FLUSH_NOTHING };
}

void mmu_change_finish(struct mmu_change *c)
{
	struct mmu *m = c->m;

	mmu_change_flush(c);
	if (!c->n_old)
		return;
	for (unsigned i = 0; i < c->n_old; i++) {
		if (c->old[i].table)
			mmu_table_put(m, c->old[i].table);
		else
			m->ops->put_frames(m->ctx, c->old[i].first, c->old[i].n);
	}
	c->n_old = 0;
	mmu_limbo_poll(m);
}

static void give_up_frames(struct mmu_change *c, uint64_t first, uint64_t n)
{
	struct mmu_old *last = c->n_old ? &c->old[c->n_old - 1] : NULL;

	if (last && !last->table && last->first + last->n == first) {
		last->n += n;
		return;
	}
	c->old[c->n_old++] = (struct mmu_old){ .first = first, .n = n };
}

/* Marks an unlinked table as dead, so that a thread that reached it before starts again. */
static void kill_table(struct mmu *m, struct mmu_table *t)
{
	if (is_serial(m))
		return;
	mmu_spin_lock(m, &t->lock);
	while (t->held) {
		mmu_table_unlock(m, t);
		mmu_relax(m);
		mmu_spin_lock(m, &t->lock);
	}
	/* If the table is shared, no thread can have reached it through this root to change it. */
	if (refs_of(t) == 1)
		atomic_store(&t->dead, true);
	mmu_table_unlock(m, t);
}

static void give_up(struct mmu_change *c, unsigned level, uint64_t e)
{
	struct mmu_table *child;

	if (!is_link(e, level)) {
		give_up_frames(c, frame_of(e), level_pages(level));
		return;
	}
	child = linked(c->m, e);
	kill_table(c->m, child);
	c->old[c->n_old++] = (struct mmu_old){ .table = child };
}

/* Must the processor forget a translation? See struct mmu_flush. */
static bool needs_flush(const struct mmu *m, uint64_t old, uint64_t e)
{
	const struct mmu_format *f = m->format;

	return !is_empty(m, old) && ((old & ~e & f->grants) | (~old & e & f->denies) |
					    ((old ^ e) & (f->type | MMU_ADDR | MMU_PS)));
}

uint64_t mmu_set_slot(
	struct mmu_change *c, struct mmu_table *t, unsigned i, uint64_t at, uint64_t e)
{
	struct mmu *m = c->m;
	uint64_t old = slot(t, i);

	mmu_trap_unless(refs_of(t) == 1 && !mmu_change_full(c));
	mmu_path_verify(c->m, c->root, t, at);
	set_linear(t, false);
	set_used(t, used_of(t) + !is_empty(m, e) - !is_empty(m, old));
	if (is_empty(m, old)) {
		atomic_store_explicit(&t->slot[i], e, memory_order_release);
		return old;
	}
	/* The processor may set A and D in the leaf until the exchange. */
	old = atomic_exchange(&t->slot[i], e);
	if (needs_flush(m, old, e))
		mmu_due_range(c, at, at + level_size(t->level));
	give_up(c, t->level, old);
	return old;
}

uint64_t mmu_set_bits(struct mmu_change *c, struct mmu_table *t, unsigned i, uint64_t at,
	uint64_t set, uint64_t clear)
{
	uint64_t old = slot(t, i), e;

	mmu_trap_unless(refs_of(t) == 1);
	mmu_path_verify(c->m, c->root, t, at);
	do
		e = (old & ~clear) | set;
	while (e != old && !atomic_compare_exchange_weak(&t->slot[i], &old, e));
	if (e != old)
		set_linear(t, false);
	if (needs_flush(c->m, old, e))
		mmu_due_range(c, at, at + level_size(t->level));
	return old;
}

/* What slot i of t needs before anything below it can be changed. */
enum need { NEED_NOTHING, NEED_REUSE, NEED_EMPTY, NEED_SPLIT, NEED_COPY };

static enum need what_is_needed(const struct mmu *m, const struct mmu_table *t, uint64_t e)
{
	if (is_empty(m, e))
		return NEED_EMPTY;
	if (!is_link(e, t->level))
		return NEED_SPLIT;
	if (is_writable(m, e))
		return NEED_NOTHING;
	return refs_of(linked(m, e)) == 1 ? NEED_REUSE : NEED_COPY;
}

/* Fills `fresh` with smaller leaves that map the same as the large leaf e, and takes references to
 * its frames for them. */
static void split_leaf(struct mmu *m, uint64_t e, struct mmu_table *fresh)
{
	for (unsigned i = 0; i < MMU_SLOTS; i++)
		atomic_store_explicit(&fresh->slot[i], piece_of(m, e, fresh->level + 1u, i),
			memory_order_relaxed);
	set_used(fresh, MMU_SLOTS);
	set_linear(fresh, fresh->level == 1);
	m->ops->get_frames(m->ctx, frame_of(e), level_pages(fresh->level + 1u));
}

/* Copies the A and D bits that the processor set in the large leaf e after its pieces were made: a
 * harvest must not miss a written page. `last`: the replaced entry. */
static void catch_up(struct mmu *m, uint64_t e, uint64_t last, struct mmu_table *fresh)
{
	uint64_t noted = last & ~e & (m->format->accessed | m->format->dirty);

	for (unsigned i = 0; noted && i < MMU_SLOTS; i++)
		atomic_fetch_or(&fresh->slot[i], noted);
}

/* Called with t locked: fills `fresh` as needed, and links it. */
static void put_in_place(struct mmu_change *c, struct mmu_table *t, unsigned i, uint64_t at,
	enum need need, struct mmu_table *fresh)
{
	struct mmu *m = c->m;
	uint64_t e = slot(t, i), last;

	if (need == NEED_SPLIT) {
		split_leaf(m, e, fresh);
	} else if (need == NEED_COPY) {
		struct mmu_copy copy = { .m = m, .share = MMU_LEVELS };

		/* This cannot fail: everything below is shared and has no pins, so the copy
		 * allocates nothing. */
		mmu_trap_unless(!mmu_table_copy(&copy, linked(m, e), fresh, at));
		count_add(m, &m->breaks, 1);
	}
	last = mmu_set_slot(c, t, i, at, make_link(m, fresh));
	if (need == NEED_SPLIT)
		catch_up(m, e, last, fresh);
}

int mmu_own_child(struct mmu_change *c, struct mmu_table *t, unsigned i, uint64_t at,
	struct mmu_table **child)
{
	struct mmu *m = c->m;
	struct mmu_table *fresh = NULL;
	enum need need = what_is_needed(m, t, slot(t, i));
	int r = 0;

	/* If a link in the root's own table has W, the linked table is the root's own, too. */
	if (need == NEED_NOTHING) {
		*child = linked(m, slot(t, i));
		return 0;
	}
	if (mmu_change_full(c))
		mmu_change_finish(c);
	for (;;) {
		mmu_table_lock(m, t);
		need = what_is_needed(m, t, slot(t, i));
		if (atomic_load(&t->dead) || need <= NEED_REUSE || fresh)
			break;
		/* Allocate without the lock: it may take long. */
		mmu_table_unlock(m, t);
		fresh = mmu_table_new(m, t->level - 1u);
		if (!fresh)
			return MMU_NO_MEMORY;
	}
	if (atomic_load(&t->dead)) {
		r = MMU_AGAIN;
	} else if (need > NEED_REUSE) {
		put_in_place(c, t, i, at, need, fresh);
		fresh = NULL;
	} else if (need == NEED_REUSE) {
		mmu_set_bits(c, t, i, at, m->format->write, 0);
		count_add(m, &m->reuses, 1);
	}
	*child = r ? NULL : linked(m, slot(t, i));
	mmu_table_unlock(m, t);
	if (fresh)
		mmu_table_put(m, fresh);
	return r;
}

/* Called with the top locked: replaces a shared top table by `fresh`, filled with what it maps. */
static void replace_top(struct mmu_change *c, struct mmu_table *top, struct mmu_table *fresh)
{
	struct mmu_copy copy = { .m = c->m, .share = MMU_LEVELS };

	mmu_trap_unless(!mmu_table_copy(&copy, top, fresh, 0));
	count_add(c->m, &c->m->breaks, 1);
	atomic_store(&c->root->top, fresh);
	mmu_due_root(c, true);
	c->old[c->n_old++] = (struct mmu_old){ .table = top };
}

int mmu_own_top(struct mmu_change *c, struct mmu_table **out)
{
	struct mmu *m = c->m;
	struct mmu_table *top, *fresh = NULL;

	if (mmu_change_full(c))
		mmu_change_finish(c);
	/* Always read refs under the lock. Otherwise refs may become 1 while another thread
	 * replaces the top because refs was 2, and a write to the old top would be lost. */
	for (;;) {
		mmu_spin_lock(m, &c->root->top_lock);
		top = top_of(c->root);
		if (refs_of(top) == 1 || fresh)
			break;
		mmu_spin_unlock(m, &c->root->top_lock);
		fresh = mmu_table_new(m, MMU_LEVELS);
		if (!fresh)
			return MMU_NO_MEMORY;
	}
	if (refs_of(top) > 1) {
		replace_top(c, top, fresh);
		top = fresh;
		fresh = NULL;
	}
	mmu_spin_unlock(m, &c->root->top_lock);
	if (fresh)
		mmu_table_put(m, fresh);
	*out = top;
	return 0;
}
