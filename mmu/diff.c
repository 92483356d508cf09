// SPDX-License-Identifier: Apache-2.0
/* Finds where two roots differ. Walks both side by side, and skips tables that both share. */
#include "mmu/walk.h"

struct diff {
	struct mmu *m;
	mmu_diff_fn *fn;
	void *arg;
	uint64_t visited;
};

/* One side of the comparison: a table, or the larger leaf (or hole) that is there instead. */
struct side {
	struct mmu_table *table; /* NULL: `whole` maps the range of a table */
	uint64_t whole;		 /* a leaf of the level above, or 0 */
	bool shared;		 /* a table on the path is shared */
};

static uint64_t entry_of(const struct mmu *m, const struct side *s, unsigned level, unsigned i)
{
	return s->table ? slot(s->table, i) : piece_of(m, s->whole, level + 1, i);
}

static struct side side_of(struct diff *d, const struct side *above, uint64_t e, unsigned level)
{
	struct side s = { .whole = e, .shared = above->shared };

	if (!is_empty(d->m, e) && is_link(e, level)) {
		s.table = linked(d->m, e);
		s.shared |= refs_of(s.table) > 1;
	}
	return s;
}

static const struct mmu_leaf *leaf_of(struct diff *d, const struct side *s, uint64_t at,
	unsigned level, uint64_t e, struct mmu_leaf *leaf)
{
	struct mmu_walk w = { .m = d->m, .here = at, .writable = true, .shared = s->shared };

	if (is_empty(d->m, e))
		return NULL;
	*leaf = mmu_leaf_of(&w, level, e);
	return leaf;
}

/* Compares two slots that have no table below. */
static int diff_leaves(
	struct diff *d, const struct side s[2], const uint64_t e[2], uint64_t at, unsigned level)
{
	const struct mmu_format *f = d->m->format;
	struct mmu_leaf leaf[2];

	if (is_empty(d->m, e[0]) && is_empty(d->m, e[1]))
		return 0;
	if (!((e[0] ^ e[1]) & ~(f->write | f->accessed | f->dirty | MMU_PIN)))
		return 0;
	return d->fn(d->arg, gpa(at), level_pages(level),
		leaf_of(d, &s[0], at, level, e[0], &leaf[0]),
		leaf_of(d, &s[1], at, level, e[1], &leaf[1]));
}

static int diff_tables(struct diff *d, const struct side s[2], uint64_t at, unsigned level)
{
	int r = 0;

	d->visited += !!s[0].table + !!s[1].table;
	for (unsigned i = 0; i < MMU_SLOTS && !r; i++, at += level_size(level)) {
		uint64_t e[2] = { entry_of(d->m, &s[0], level, i),
			entry_of(d->m, &s[1], level, i) };
		struct side below[2] = { side_of(d, &s[0], e[0], level),
			side_of(d, &s[1], e[1], level) };

		if (!below[0].table && !below[1].table)
			r = diff_leaves(d, s, e, at, level);
		else if (below[0].table != below[1].table)
			r = diff_tables(d, below, at, level - 1);
	}
	return r;
}

int mmu_diff(struct mmu *m, const struct mmu_root *a, const struct mmu_root *b, mmu_diff_fn *fn,
	void *arg, uint64_t *visited)
{
	struct diff d = { .m = m, .fn = fn, .arg = arg };
	struct mmu_cpu *cpu = mmu_walk_begin(m);
	struct side top[2] = { { .table = top_of(a) }, { .table = top_of(b) } };
	int r = 0;

	if (top[0].table != top[1].table)
		r = diff_tables(&d, top, 0, MMU_LEVELS);
	mmu_walk_end(cpu);
	if (visited)
		*visited = d.visited;
	return r;
}
