// SPDX-License-Identifier: Apache-2.0
#include "vmm/fork/populate.h"

#include <errno.h>

#include "vmm/fork/frame-list.h"

#define LIST_PIECES 64u /* mappings that a view starts with */
/* The key of no generation: the view must be blanked before it is used. */
#define AHEAD_IN_PART UINT64_MAX

/* The RAM offset where a list ends. The list must not be empty. */
static ram_off_t list_end(const struct frame_list *l)
{
	return run_end(&l->run[l->n - 1]);
}

static struct frame_list *make_list(struct generation *g)
{
	struct frame_list *l = malloc(sizeof(*l) + LIST_PIECES * sizeof(l->run[0]));
	ram_off_t end = ram_off(g->set->ram->size), next;

	if (!l)
		return NULL;
	atomic_init(&l->refs, 1);
	l->key = g->id + 1;
	l->n = memory_runs(g->set->memory, g->root, ram_off(0), end, l->run, LIST_PIECES, &next);
	l->whole = next.v == end.v;
	/* The limit may have cut the list within a span: end it where this span begins. */
	while (!l->whole && l->n && page_of(list_end(l))) {
		struct frame_run *last = &l->run[l->n - 1];
		ram_off_t whole = span_off(span_of(list_end(l)));

		if (whole.v > last->off.v)
			last->n_pages = (whole.v - last->off.v) / PAGE_SIZE;
		else
			l->n--;
	}
	return l;
}

/* Returns the list of a generation's frames, which the generation owns. NULL: out of memory. */
static struct frame_list *list_of(struct generation *g)
{
	struct frame_list *l = atomic_load(&g->list), *none = NULL;

	if (l)
		return l;
	l = make_list(g);
	if (l && !atomic_compare_exchange_strong(&g->list, &none, l)) {
		frame_list_put(l);
		l = none;
	}
	return l;
}

static int map_list(struct view *view, const struct frame_list *l)
{
	int r = 0;

	for (unsigned i = 0; i < l->n && !r; i++)
		r = view_map(view, l->run[i].off, l->run[i].frame, l->run[i].n_pages, false);
	/* The list has whole spans, from the first one on. */
	for (span_t s = span_nr(0); l->n && !r && span_off(s).v < list_end(l).v; s.v++)
		view_complete(view, s);
	return r;
}

static bool has_room(const struct view *view, const struct frame_list *l)
{
	return atomic_load(&view->arena->pieces) + l->n <= view_pieces_max(view->arena);
}

int generation_populate(struct view *view, struct generation *g)
{
	struct frame_list *l;

	if (!atomic_load(&g->settled))
		return 0; /* every span is filled when it is touched */
	l = list_of(g);
	if (!l)
		return -ENOMEM;
	return has_room(view, l) ? map_list(view, l) : 0;
}

int generation_enter(struct shell *sh, struct generation *g, bool written)
{
	struct view *view = sh->view;
	int r = 0;

	if (view->ahead == g->id + 1)
		return 0;
	if (view->ahead) /* nothing has touched it, so it is unmapped at once */
		r = view_blank(view);
	if (r || (written && sh->used))
		return r;
	return generation_populate(view, g);
}

/* ---- ahead ---- */

void generations_expect(struct generations *set, struct generation *g)
{
	struct frame_list *l = g && atomic_load(&g->settled) ? list_of(g) : NULL, *old;

	frame_list_get(l);
	lock_take(&set->lock);
	old = set->ahead;
	set->ahead = l;
	set->ahead_written = g && !g->state;
	lock_release(&set->lock);
	frame_list_put(old);
}

void generations_prepare(void *arg, struct shell *sh)
{
	struct generations *set = arg;
	struct frame_list *l;

	lock_take(&set->lock);
	l = sh->used && set->ahead_written ? NULL : frame_list_get(set->ahead);
	lock_release(&set->lock);
	/* Mappings are left for the VMs that run. */
	if (l && atomic_load(&sh->view->arena->pieces) + l->n <=
			 view_pieces_max(sh->view->arena) / 2)
		sh->view->ahead = map_list(sh->view, l) ? AHEAD_IN_PART : l->key;
	frame_list_put(l);
}
