// SPDX-License-Identifier: Apache-2.0
/* Address spaces: map, unmap and discard. */
#include "mmu/walk.h"

#include "mmu/trap.h"

void mmu_init(struct mmu *m, const struct mmu_format *format, const struct mmu_ops *ops, void *ctx)
{
	*m = (struct mmu){ .format = format, .ops = ops, .ctx = ctx, .scheme = &mmu_scan };
	atomic_init(&m->epoch, 1);
	m->limbo_end = &m->limbo;
}

void mmu_concurrent(struct mmu *m, struct mmu_cpu *cpu, unsigned n)
{
	mmu_trap_unless(cpu && n && m->ops->cpu && !mmu_tables(m));
	m->cpu = cpu;
	m->n_cpus = n;
}

int mmu_root_init(struct mmu *m, struct mmu_root *root)
{
	struct mmu_table *t = mmu_table_new(m, MMU_LEVELS);

	if (!t)
		return MMU_NO_MEMORY;
	*root = (struct mmu_root){ .region = NULL };
	atomic_init(&root->top, t);
	return 0;
}

void mmu_root_put(struct mmu *m, struct mmu_root *root)
{
	mmu_table_put(m, top_of(root));
	atomic_store_explicit(&root->top, NULL, memory_order_relaxed);
	mmu_limbo_poll(m);
}

uint64_t mmu_root_phys(const struct mmu_root *root)
{
	return top_of(root)->phys;
}

/* 0, or MMU_BUSY: the entry has pinned pages and must not be removed. */
static int check_pins(const struct mmu_walk *w, unsigned level, uint64_t e)
{
	if (is_empty(w->m, e))
		return 0;
	if (is_link(e, level))
		return linked(w->m, e)->pins ? MMU_BUSY : 0;
	return e & MMU_PIN ? MMU_BUSY : 0;
}

static int act_if_unpinned(const struct mmu_walk *w, unsigned level, uint64_t e)
{
	int r = w->pass == MMU_PREPARE ? check_pins(w, level, e) : 0;

	return r ? r : MMU_ACT;
}

/* ---- map ---- */

struct map {
	uint64_t frame;		   /* the frame for w->at */
	uint64_t bits[MMU_LEVELS]; /* the bits of a leaf, for each level */
	unsigned max_level;
};

static uint64_t frame_at(const struct mmu_walk *w, const struct map *map)
{
	return map->frame + (w->here - w->at) / MMU_PAGE_SIZE;
}

static int plan_map(struct mmu_walk *w, unsigned level, uint64_t e, bool covered)
{
	const struct map *map = w->arg;

	if (level > map->max_level || !covered || frame_at(w, map) % level_pages(level))
		return MMU_INTO;
	return act_if_unpinned(w, level, e);
}

/* Fills all of an empty PTE table at once. */
static int fill(struct mmu_table *t, uint64_t e)
{
	for (unsigned i = 0; i < MMU_SLOTS; i++, e += MMU_PAGE_SIZE)
		atomic_store_explicit(&t->slot[i], e, memory_order_release);
	set_used(t, MMU_SLOTS);
	set_linear(t, true);
	return MMU_SLOTS;
}

static int act_map(struct mmu_walk *w, struct mmu_table *t, unsigned i)
{
	const struct map *map = w->arg;
	uint64_t e = make_leaf(frame_at(w, map), map->bits[t->level]);

	if (t->level == 1 && !used_of(t) && w->end - w->here >= MMU_SPAN_SIZE && i == 0)
		return fill(t, e);
	mmu_set_slot(&w->c, t, i, w->here, e);
	return 1;
}

int mmu_map(struct mmu *m, struct mmu_root *root, gpa_t at, uint64_t n, uint64_t frame,
	struct mmu_attr attr)
{
	static const struct mmu_visitor visitor = { .plan = plan_map, .act = act_map };
	struct map map = { .frame = frame, .max_level = attr.level ? attr.level : 1 };
	struct mmu_walk w = { .m = m, .v = &visitor, .arg = &map };

	if (mmu_range(&w, at, n) || map.max_level >= MMU_LEVELS ||
		frame > MMU_ADDR / MMU_PAGE_SIZE || n > MMU_ADDR / MMU_PAGE_SIZE - frame)
		return MMU_INVALID;
	for (unsigned level = 1; level <= map.max_level; level++)
		if (!m->format->leaf(attr, level, &map.bits[level]))
			return MMU_INVALID;
	return mmu_change(&w, root, false);
}

/* ---- unmap and discard ---- */

static int plan_unmap(struct mmu_walk *w, unsigned level, uint64_t e, bool covered)
{
	if (is_empty(w->m, e))
		return MMU_OVER;
	/* A table that must stay in place is emptied slot by slot. */
	if (!covered || (w->keep_empty && is_link(e, level)))
		return MMU_INTO;
	return act_if_unpinned(w, level, e);
}

static int act_unmap(struct mmu_walk *w, struct mmu_table *t, unsigned i)
{
	mmu_set_slot(&w->c, t, i, w->here, 0);
	return 1;
}

static const struct mmu_visitor unmap = { .plan = plan_unmap, .act = act_unmap };

int mmu_unmap(struct mmu *m, struct mmu_root *root, gpa_t at, uint64_t n)
{
	struct mmu_walk w = { .m = m, .v = &unmap };

	return mmu_range(&w, at, n) ? MMU_INVALID : mmu_change(&w, root, false);
}

/*
 * Hysteresis: the last few spans whose tables became empty keep these tables. When another span
 * comes, the table of the oldest span is freed. A span is remembered by address, so there is no
 * pointer that could dangle: its table is looked up again. True: free the table of *oldest.
 */
static bool remember(struct mmu *m, struct mmu_root *root, gpa_t at, gpa_t *oldest)
{
	unsigned i = 0;
	bool known, full;

	mmu_spin_lock(m, &root->top_lock);
	while (i < root->n_kept && root->kept[i].v != at.v)
		i++;
	known = i < root->n_kept;
	full = !known && root->n_kept && root->n_kept >= m->keep;
	if (full) {
		*oldest = root->kept[0];
		for (i = 1; i < root->n_kept; i++)
			root->kept[i - 1] = root->kept[i];
		root->n_kept--;
	}
	if (!known)
		root->kept[root->n_kept++] = at;
	mmu_spin_unlock(m, &root->top_lock);
	return full;
}

/* Remembers the spans of a discarded range whose tables are empty. */
static void keep_spans(struct mmu_walk *w, uint64_t at, uint64_t end)
{
	struct mmu_cpu *cpu = mmu_walk_begin(w->m);
	struct mmu_root *root = w->c.root;
	gpa_t oldest;

	for (; at < end; at += MMU_SPAN_SIZE) {
		struct mmu_table *t = mmu_table_find(w->m, root, at, 1);

		if (!t || used_of(t) || !remember(w->m, root, gpa(at), &oldest))
			continue;
		w->at = oldest.v;
		w->end = oldest.v + MMU_SPAN_SIZE;
		mmu_prune(w);
	}
	mmu_walk_end(cpu);
}

int mmu_discard(struct mmu *m, struct mmu_root *root, gpa_t at, uint64_t n)
{
	struct mmu_walk w = { .m = m, .v = &unmap, .by_scheme = true };
	uint64_t begin = at.v & ~(MMU_SPAN_SIZE - 1), end, keep = m->keep * MMU_SPAN_SIZE;
	bool exclusive, kept;
	int r;

	if (mmu_range(&w, at, n))
		return MMU_INVALID;
	if (!n)
		return 0;
	end = w.end;
	exclusive = end - begin > MMU_SPAN_SIZE;
	/* A guest that discards more than this will probably not use the range again soon. */
	kept = !m->scheme->keeps_empty && end - begin <= keep;
	w.keep_empty = m->scheme->keeps_empty || kept;
	mmu_change_start(&w.c, m, root);
	mmu_root_lock(m, root, exclusive);
	r = mmu_change_locked(&w);
	if (!r && kept)
		keep_spans(&w, begin, end);
	mmu_change_finish(&w.c);
	mmu_root_unlock(m, root, exclusive);
	return r;
}

void mmu_reclaim(struct mmu *m, struct mmu_root *root)
{
	struct mmu_walk w = { .m = m, .end = level_size(MMU_LEVELS + 1) };

	mmu_change_start(&w.c, m, root);
	mmu_root_lock(m, root, true);
	root->n_kept = 0;
	mmu_prune(&w);
	mmu_change_finish(&w.c);
	mmu_root_unlock(m, root, true);
}
