// SPDX-License-Identifier: Apache-2.0
/* Prints tables as text. Does not use printf(), which freestanding environments do not have. */
#include "mmu/walk.h"

struct dump {
	mmu_line_fn *fn;
	void *arg;
	char line[128];
	unsigned len;
	/* A run of similar leaves with consecutive frames that is not printed yet. */
	struct mmu_leaf first;
	uint64_t n_pages;
};

static void text(struct dump *d, const char *s)
{
	while (*s && d->len < sizeof(d->line) - 1)
		d->line[d->len++] = *s++;
}

static void number(struct dump *d, const char *what, uint64_t v, unsigned base)
{
	char digits[21];
	unsigned i = sizeof(digits) - 1;

	digits[i] = 0;
	do
		digits[--i] = "0123456789abcdef"[v % base];
	while (v /= base);
	text(d, what);
	text(d, digits + i);
}

static void end_line(struct dump *d)
{
	d->line[d->len] = 0;
	d->len = 0;
	d->fn(d->arg, d->line);
}

static const char *type_name(uint8_t type)
{
	static const char *const name[] = { "UC", "WC", "?", "?", "WT", "WP", "WB", "?" };

	return name[type & 7];
}

static void end_run(struct dump *d)
{
	const struct mmu_attr *a = &d->first.attr;

	if (!d->n_pages)
		return;
	number(d, "  0x", d->first.at.v, 16);
	number(d, " + ", d->n_pages, 10);
	number(d, " pages: leaf ", a->level, 10);
	number(d, ", frame 0x", d->first.frame, 16);
	text(d, a->r ? ", r" : ", -");
	text(d, a->w ? "w" : d->first.may_write ? "c" : "-");
	text(d, a->x ? "x " : "- ");
	text(d, type_name(a->memory_type));
	text(d, a->ignore_pat ? "!" : "");
	text(d, a->accessed ? " A" : "");
	text(d, a->dirty ? " D" : "");
	text(d, d->first.shared ? " shared" : "");
	text(d, d->first.pinned ? " pinned" : "");
	end_line(d);
	d->n_pages = 0;
}

static bool enter_dump(struct mmu_walk *w, struct mmu_table *t)
{
	struct dump *d = w->arg;

	end_run(d);
	number(d, "table of level ", t->level, 10);
	number(d, " for 0x", w->here, 16);
	number(d, " at 0x", t->phys, 16);
	number(d, ": refs ", refs_of(t), 10);
	number(d, ", used ", used_of(t), 10);
	if (t->pins)
		number(d, ", pins ", t->pins, 10);
	end_line(d);
	return true;
}

static bool continues(const struct dump *d, const struct mmu_leaf *l)
{
	const struct mmu_leaf *f = &d->first;

	return d->n_pages && l->at.v == f->at.v + d->n_pages * MMU_PAGE_SIZE &&
	       l->frame == f->frame + d->n_pages && l->attr.level == f->attr.level &&
	       l->attr.r == f->attr.r && l->attr.w == f->attr.w && l->attr.x == f->attr.x &&
	       l->attr.memory_type == f->attr.memory_type && l->may_write == f->may_write &&
	       l->attr.accessed == f->attr.accessed && l->attr.dirty == f->attr.dirty &&
	       l->shared == f->shared && l->pinned == f->pinned;
}

static int act_dump(struct mmu_walk *w, struct mmu_table *t, unsigned i)
{
	struct dump *d = w->arg;
	struct mmu_leaf leaf = mmu_leaf_of(w, t->level, slot(t, i));

	if (!continues(d, &leaf)) {
		end_run(d);
		d->first = leaf;
	}
	d->n_pages += level_pages(t->level);
	return 1;
}

void mmu_dump(struct mmu *m, const struct mmu_root *root, mmu_line_fn *line, void *arg)
{
	static const struct mmu_visitor visitor = {
		.plan = mmu_plan_look, .act = act_dump, .enter = enter_dump
	};
	struct dump d = { .fn = line, .arg = arg };
	struct mmu_walk w = { .m = m, .v = &visitor, .arg = &d, .end = level_size(MMU_LEVELS + 1) };

	mmu_look(&w, root);
	end_run(&d);
}
