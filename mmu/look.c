// SPDX-License-Identifier: Apache-2.0
/* Functions that only look. They take no locks. */
#include "mmu/trap.h"
#include "mmu/walk.h"

int mmu_translate(struct mmu *m, const struct mmu_root *root, gpa_t at, uint64_t *frame,
	struct mmu_attr *attr)
{
	struct mmu_attr all = { .r = true, .w = true, .x = true };
	struct mmu_cpu *cpu = mmu_walk_begin(m);
	struct mmu_table *t = top_of(root);
	int r = MMU_NOT_MAPPED;

	while (at.v < level_size(MMU_LEVELS + 1)) {
		uint64_t e = slot(t, level_index(at.v, t->level));
		struct mmu_attr a;

		if (is_empty(m, e))
			break;
		a = m->format->attr(e);
		a.r &= all.r;
		a.w &= all.w;
		a.x &= all.x;
		if (!is_link(e, t->level)) {
			a.level = t->level;
			*attr = a;
			*frame = frame_of(e) + (at.v & (level_size(t->level) - 1)) / MMU_PAGE_SIZE;
			r = 0;
			break;
		}
		all = a;
		t = linked(m, e);
	}
	mmu_walk_end(cpu);
	return r;
}

bool mmu_visit(struct mmu *m, const struct mmu_root *root, gpa_t at, struct mmu_visit *visit)
{
	const struct mmu_scheme *s = m->scheme;
	struct mmu_cpu *cpu = mmu_walk_begin(m);
	struct mmu_table *t;

	mmu_trap_unless(cpu || s != &mmu_percpu);
	do
		t = at.v < level_size(MMU_LEVELS + 1) ? mmu_table_find(m, root, at.v, 1) : NULL;
	while (t && !s->get(cpu, t));
	visit->table = t;
	visit->walk = cpu;
	/* The count keeps the table alive, so the walk can end. */
	if (!t || s->counts)
		mmu_walk_end(cpu);
	return t;
}

void mmu_visit_end(struct mmu *m, struct mmu_visit *visit)
{
	struct mmu_table *t = visit->table;
	struct mmu_cpu *cpu = visit->walk;
	bool last;

	if (m->scheme->counts)
		cpu = mmu_walk_begin(m);
	last = m->scheme->put(cpu, t);
	mmu_walk_end(cpu);
	if (last)
		m->ops->free_table(m->ctx, t);
}

struct mmu_leaf mmu_leaf_of(const struct mmu_walk *w, unsigned level, uint64_t e)
{
	struct mmu_leaf leaf = {
		.at = gpa(w->here),
		.frame = frame_of(e),
		.attr = w->m->format->attr(e),
		.may_write = e & MMU_INTENT,
		.shared = w->shared,
		.pinned = e & MMU_PIN,
	};

	leaf.attr.w &= w->writable;
	leaf.attr.level = (uint8_t)level;
	return leaf;
}

int mmu_plan_look(struct mmu_walk *w, unsigned level, uint64_t e, bool covered)
{
	return is_empty(w->m, e) ? MMU_OVER : is_link(e, level) ? MMU_INTO : MMU_ACT;
}

struct iteration {
	mmu_leaf_fn *fn;
	void *arg;
};

static int act_iterate(struct mmu_walk *w, struct mmu_table *t, unsigned i)
{
	const struct iteration *it = w->arg;
	uint64_t e = slot(t, i);

	if (!is_empty(w->m, e)) {
		struct mmu_leaf leaf = mmu_leaf_of(w, t->level, e);

		w->stopped = it->fn(it->arg, &leaf);
	}
	return 1;
}

int mmu_iterate(struct mmu *m, const struct mmu_root *root, gpa_t at, uint64_t n, mmu_leaf_fn *fn,
	void *arg)
{
	static const struct mmu_visitor visitor = { .plan = mmu_plan_look, .act = act_iterate };
	struct iteration it = { fn, arg };
	struct mmu_walk w = { .m = m, .v = &visitor, .arg = &it };

	return mmu_range(&w, at, n) ? MMU_INVALID : mmu_look(&w, root);
}

/* ---- runs ---- */

/* Continues or begins a run with the slots of t from w->here on. Returns the number of slots. */
static int act_run(struct mmu_walk *w, struct mmu_table *t, unsigned i)
{
	struct mmu_run *run = w->arg;
	uint64_t each = level_pages(t->level);
	unsigned first = i;

	if (run->n_pages && w->here != run->at.v + run->n_pages * MMU_PAGE_SIZE) {
		w->stopped = 1;
		return 1;
	}
	if (!run->n_pages)
		*run = (struct mmu_run){ gpa(w->here), frame_of(slot(t, i)), 0 };
	if (is_linear(t) && frame_of(slot(t, i)) == run->frame + run->n_pages) {
		run->n_pages += MMU_SLOTS - i;
		return (int)(MMU_SLOTS - i);
	}
	for (; i < MMU_SLOTS; i++, run->n_pages += each) {
		uint64_t e = slot(t, i);

		if (!is_leaf(w->m, e, t->level))
			break;
		if (frame_of(e) != run->frame + run->n_pages) {
			w->stopped = 1;
			break;
		}
	}
	return i > first ? (int)(i - first) : 1;
}

bool mmu_next_run(
	struct mmu *m, const struct mmu_root *root, gpa_t at, gpa_t end, struct mmu_run *run)
{
	static const struct mmu_visitor visitor = { .plan = mmu_plan_look, .act = act_run };
	struct mmu_run r = { .n_pages = 0 };
	struct mmu_walk w = { .m = m, .v = &visitor, .arg = &r };
	uint64_t skip;

	if (end.v <= at.v || mmu_range(&w, at, (end.v - at.v) / MMU_PAGE_SIZE))
		return false;
	mmu_look(&w, root);
	if (!r.n_pages)
		return false;
	/* A large leaf may begin before the range, and end after it. */
	skip = at.v > r.at.v ? (at.v - r.at.v) / MMU_PAGE_SIZE : 0;
	r = (struct mmu_run){ gpa(r.at.v + skip * MMU_PAGE_SIZE), r.frame + skip,
		r.n_pages - skip };
	if (r.n_pages > (end.v - r.at.v) / MMU_PAGE_SIZE)
		r.n_pages = (end.v - r.at.v) / MMU_PAGE_SIZE;
	*run = r;
	return true;
}

/* ---- statistics ---- */

static bool enter_stat(struct mmu_walk *w, struct mmu_table *t)
{
	struct mmu_root_stat *st = w->arg;

	if (w->shared)
		st->shared++;
	else
		st->own++;
	st->tables[t->level]++;
	st->empty += t->level == 1 && !used_of(t);
	if (t->level == 1 && !t->pins) {
		st->leaves[1] += used_of(t);
		return false;
	}
	return true;
}

static int act_stat(struct mmu_walk *w, struct mmu_table *t, unsigned i)
{
	struct mmu_root_stat *st = w->arg;

	st->leaves[t->level]++;
	st->pinned += (slot(t, i) & MMU_PIN) != 0;
	return 1;
}

void mmu_root_stat(struct mmu *m, const struct mmu_root *root, struct mmu_root_stat *st)
{
	static const struct mmu_visitor visitor = {
		.plan = mmu_plan_look, .act = act_stat, .enter = enter_stat
	};
	struct mmu_walk w = { .m = m, .v = &visitor, .arg = st };

	*st = (struct mmu_root_stat){ 0 };
	w.end = level_size(MMU_LEVELS + 1);
	mmu_look(&w, root);
}
