// SPDX-License-Identifier: Apache-2.0
/* The checker: recomputes every count from the roots. */
#include "mmu/seal.h"
#include "mmu/walk.h"

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

/* Checks what does not depend on the path to the table. */
static void check_table(struct check *c, const struct mmu_table *t)
{
	unsigned used = 0, pins = 0;

	for (unsigned i = 0; i < MMU_SLOTS; i++) {
		uint64_t e = slot(t, i);

		if (is_empty(c->m, e))
			continue;
		used++;
		if (is_link(e, t->level))
			pins += linked(c->m, e)->pins;
		else
			pins += (e & MMU_PIN) != 0;
	}
	expect(c, "slots in use of a table", t->phys, used_of(t), used);
	expect(c, "pins of a table", t->phys, t->pins, pins);
	if (pins)
		expect(c, "references to a table with pins", t->phys, refs_of(t), 1);
	if (is_linear(t))
		expect(c, "frames of a linear table in a row", t->phys, mmu_looks_linear(c->m, t),
			true);
	expect(c, "a linked table that is dead", t->phys, t->dead, false);
	expect(c, "seal of a shared table", t->phys, mmu_seal_intact(c->m, t), true);
}

/* Counts one reference to the table. The references of its slots are counted only at the first
 * visit. */
static bool enter_check(struct mmu_walk *w, struct mmu_table *t)
{
	struct check *c = w->arg;

	if (refs_of(t) > 1 && t->level < MMU_LEVELS)
		expect(c, "W on the way to a shared table", t->phys, w->writable, false);
	if (t->seen++)
		return false;
	c->tables++;
	check_table(c, t);
	return true;
}

static int plan_check(struct mmu_walk *w, unsigned level, uint64_t e, bool covered)
{
	struct check *c = w->arg;

	if (is_empty(c->m, e))
		return MMU_OVER;
	if (is_link(e, level)) {
		expect(c, "level of a linked table", e & MMU_ADDR, linked(c->m, e)->level,
			level - 1u);
		return MMU_INTO;
	}
	for (uint64_t f = frame_of(e); f < frame_of(e) + level_pages(level); f++) {
		if (f < c->n_frames)
			c->seen[f]++;
		else
			expect(c, "frame past the pool", e, f, c->n_frames);
	}
	return MMU_OVER;
}

/* Compares a table's refs with the number that was counted, and sets `seen` back to 0. */
static bool enter_settle(struct mmu_walk *w, struct mmu_table *t)
{
	uint32_t seen = t->seen;

	if (!seen)
		return false;
	t->seen = 0;
	expect(w->arg, "references to a table", t->phys, refs_of(t), seen);
	return t->level > 1;
}

static int plan_links(struct mmu_walk *w, unsigned level, uint64_t e, bool covered)
{
	return !is_empty(w->m, e) && is_link(e, level) ? MMU_INTO : MMU_OVER;
}

unsigned mmu_check(struct mmu *m, struct mmu_root *const *root, unsigned n, uint32_t *seen,
	uint64_t n_frames, mmu_report *report, void *arg)
{
	static const struct mmu_visitor check = { .plan = plan_check, .enter = enter_check };
	static const struct mmu_visitor settle = { .plan = plan_links, .enter = enter_settle };
	struct check c = { m, seen, n_frames, 0, 0, report, arg };
	struct mmu_walk w = { .m = m, .arg = &c, .end = level_size(MMU_LEVELS + 1) };

	w.v = &check;
	for (unsigned i = 0; i < n; i++)
		mmu_look(&w, root[i]);
	w.v = &settle;
	for (unsigned i = 0; i < n; i++)
		mmu_look(&w, root[i]);
	expect(&c, "tables alive", 0, mmu_tables(m), c.tables);
	return c.wrong;
}

/* ---- formats ---- */

struct format_check {
	const struct mmu_caps *caps;
	mmu_report *report;
	void *arg;
	unsigned wrong;
};

static int plan_format(struct mmu_walk *w, unsigned level, uint64_t e, bool covered)
{
	struct format_check *c = w->arg;
	const char *why = mmu_validate(w->m->format, c->caps, level, e);

	if (why) {
		c->wrong++;
		c->report(c->arg, why, w->here, e, 0);
	}
	return plan_links(w, level, e, covered);
}

unsigned mmu_check_format(struct mmu *m, const struct mmu_root *root, const struct mmu_caps *caps,
	mmu_report *report, void *arg)
{
	static const struct mmu_visitor visitor = { .plan = plan_format };
	struct format_check c = { caps, report, arg, 0 };
	struct mmu_walk w = { .m = m, .v = &visitor, .arg = &c, .end = level_size(MMU_LEVELS + 1) };

	mmu_look(&w, root);
	return c.wrong;
}
