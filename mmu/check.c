// SPDX-License-Identifier: Apache-2.0
/* The checker: every count, recomputed from the roots. */
#include "mmu/table.h"

struct check {
	struct mmu *m;
	uint32_t *seen;
	uint64_t n_frames, tables;
	unsigned wrong;
	mmu_report *report;
	void *arg;
};

static void expect(
	struct check *c, const char *what, uint64_t phys, uint64_t is, uint64_t should_be)
{
	if (is == should_be)
		return;
	c->wrong++;
	c->report(c->arg, what, phys, is, should_be);
}

/* Counts the references that a table hands down, once, the first time it is met. */
static void visit(struct check *c, struct mmu_table *t)
{
	unsigned used = 0;

	if (t->seen++)
		return;
	c->tables++;
	for (unsigned i = 0; i < MMU_SLOTS; i++) {
		uint64_t e = slot(t, i);

		if (is_empty(c->m, e))
			continue;
		used++;
		if (is_link(e)) {
			struct mmu_table *child = linked(c->m, e);

			expect(c, "level of a linked table", child->phys, child->level,
				t->level - 1u);
			if (child->refs > 1)
				expect(c, "W in the link to a shared table", child->phys,
					!!(e & c->m->format->write), 0);
			visit(c, child);
		} else if (frame_of(e) < c->n_frames) {
			c->seen[frame_of(e)]++;
		} else {
			expect(c, "frame past the pool", t->phys, frame_of(e), c->n_frames);
		}
	}
	expect(c, "slots in use of a table", t->phys, t->used, used);
}

/* Compares a table's references with what was counted, and leaves it as it was. */
static void settle(struct check *c, struct mmu_table *t)
{
	uint32_t seen = t->seen;

	if (!seen)
		return;
	t->seen = 0;
	expect(c, "references to a table", t->phys, t->refs, seen);
	for (unsigned i = 0; t->level > 1 && i < MMU_SLOTS; i++)
		if (!is_empty(c->m, slot(t, i)))
			settle(c, linked(c->m, slot(t, i)));
}

unsigned mmu_check(struct mmu *m, struct mmu_root *const *root, unsigned n, uint32_t *seen,
	uint64_t n_frames, mmu_report *report, void *arg)
{
	struct check c = { m, seen, n_frames, 0, 0, report, arg };

	for (unsigned i = 0; i < n; i++)
		visit(&c, root[i]->top);
	for (unsigned i = 0; i < n; i++)
		settle(&c, root[i]->top);
	expect(&c, "tables alive", 0, mmu_tables(m), c.tables);
	return c.wrong;
}

static void count(struct mmu *m, const struct mmu_table *t, bool shared, struct mmu_root_stat *st)
{
	shared |= t->refs > 1;
	if (shared)
		st->shared++;
	else
		st->own++;
	for (unsigned i = 0; t->level > 1 && i < MMU_SLOTS; i++)
		if (!is_empty(m, slot(t, i)))
			count(m, linked(m, slot(t, i)), shared, st);
}

void mmu_root_stat(struct mmu *m, const struct mmu_root *root, struct mmu_root_stat *st)
{
	*st = (struct mmu_root_stat){ 0 };
	count(m, root->top, false, st);
}
