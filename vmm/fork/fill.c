// SPDX-License-Identifier: Apache-2.0
/*
 * Fills the absent spans of views, when a thread touches them or before that. docs/fork.md lists
 * the ways.
 */
#include "vmm/fork/fill.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "vmm/base/priority.h"

/* A span in more pieces than this is copied into a view, not mapped: a mapping costs a VMA, and
 * about as much time as copying two pages. */
#define PIECES_PER_SPAN 64u

/* Copies n runs of a span into a view as private pages. Used when there must be no more mappings.
 */
static int copy_runs(struct view *view, struct memory *m, const struct frame_run *run, unsigned n)
{
	uint8_t *buf =
		mmap(NULL, SPAN_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	bool copied = false;
	int r = 0;

	if (buf == MAP_FAILED)
		return -ENOMEM;
	if (!memory_charge(m, SPAN_SIZE)) {
		munmap(buf, SPAN_SIZE);
		return -ENOMEM;
	}
	for (unsigned i = 0; i < n && !r;) {
		ram_off_t off = run[i].off, end = off;

		for (; i < n && run[i].off.v == end.v && !r; i++) {
			r = memory_read_frames(
				m, run[i].frame, run[i].n_pages, buf + (end.v - off.v));
			end = run_end(&run[i]);
		}
		if (!r)
			r = view_copy(view, off, end.v - off.v, buf);
		copied |= !r;
	}
	munmap(buf, SPAN_SIZE);
	/* The guest may have written to the pages that were copied: they cannot be taken back. */
	if (r && copied)
		view_poison(view, span_of(run[0].off));
	if (r)
		memory_refund(m, SPAN_SIZE);
	return r;
}

/* Cuts the blocks that are already placed in a view out of the n runs of a span. Returns the new
 * number of runs. */
static unsigned cut_placed(struct frame_run *run, unsigned n, uint64_t blocks)
{
	struct frame_run old[SPAN_PAGES];
	unsigned kept = 0;

	memcpy(old, run, n * sizeof(*run));
	for (unsigned i = 0; i < n; i++)
		for (uint64_t p = 0, step; p < old[i].n_pages; p += step) {
			ram_off_t off = off_add(old[i].off, p * PAGE_SIZE);
			unsigned page = page_of(off);

			step = VIEW_BLOCK_PAGES - page % VIEW_BLOCK_PAGES;
			if (step > old[i].n_pages - p)
				step = old[i].n_pages - p;
			if (blocks >> (page / VIEW_BLOCK_PAGES) & 1)
				continue;
			if (p && kept && run_end(&run[kept - 1]).v == off.v)
				run[kept - 1].n_pages += step;
			else
				run[kept++] =
					(struct frame_run){ off, frame_add(old[i].frame, p), step };
		}
	return kept;
}

/* Maps n runs of a span, and copies those that cannot be mapped. */
static int map_runs(struct view *view, struct memory *m, const struct frame_run *run, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		int r = view_map(view, run[i].off, run[i].frame, run[i].n_pages, false);

		if (!r)
			continue;
		if (!i)
			return r;
		/* The guest may have written to the pages that are mapped, so they must stay. The
		 * others are still absent. */
		r = copy_runs(view, m, run + i, n - i);
		if (r)
			view_poison(view, span_of(run[0].off));
		return r;
	}
	return 0;
}

static int map_span(struct view *view, struct memory *m, span_t span, struct span_runs *runs)
{
	unsigned n = runs->n;
	int r;

	if (view_state(view, span) == VIEW_PARTIAL)
		n = cut_placed(runs->run, n, view_placed(view, span));
	if (n > PIECES_PER_SPAN ||
		(n > 1 && atomic_load(&view->arena->pieces) + n > view_pieces_max(view->arena)))
		r = copy_runs(view, m, runs->run, n);
	else
		r = map_runs(view, m, runs->run, n);
	if (!r)
		view_complete(view, span);
	return r;
}

/* Moves the overlay's page table of a span, which is as the VM left it, into the view. */
static int take_span(struct view *view, struct generation *g, span_t span)
{
	struct view *overlay = g->overlay->view;
	int r;

	generation_lock_overlay(g);
	r = view_take(view, overlay, span);
	lock_release(&overlay->lock);
	if (!r)
		atomic_fetch_add_explicit(&g->set->taken_back, 1, memory_order_relaxed);
	return r;
}

/*
 * Places only the block around a page, so that a vCPU need not wait until all of the span is
 * resolved. The overlay's view shows its private pages, and where it has none, the pages that its
 * VM was born with. 0, or not 0: the caller must fill the span.
 */
static int place_block(struct view *view, struct generation *g, span_t span, unsigned page)
{
	struct view *overlay;
	bool present; /* the whole block */
	int r = 1;

	if (!g->span || !generation_claim(g, span))
		return 1;
	/* While a span is BUSY, the overlay stays. */
	overlay = g->overlay->view;
	generation_lock_overlay(g);
	present = view_has_page(overlay, span, page);
	lock_release(&overlay->lock);
	if (present)
		r = view_place(view, span, page, view_at(overlay, span_off(span)));
	generation_unclaim(g, span, GEN_DEFERRED);
	return r;
}

static bool may_take(const struct view *view, const struct generation *g, span_t span)
{
	struct view *overlay;
	bool can;

	if (view_state(view, span) != VIEW_ABSENT || atomic_load(&g->settled) ||
		atomic_load(&g->heir) != view || !g->overlay)
		return false;
	overlay = g->overlay->view;
	generation_lock_overlay(g);
	can = view_can_take(overlay, span);
	lock_release(&overlay->lock);
	return can; /* this stays true: only the heir takes spans, and the caller holds its lock */
}

/* The span is resolved for others already, but the parent keeps its own pages: mapping the frames
 * would make it copy each one again. */
static int take_resolved(struct view *view, struct generation *g, span_t span)
{
	int r = take_span(view, g, span);

	if (r)
		return r;
	view->flags[span.v] |= VIEW_COPIES;
	atomic_fetch_sub(&g->n_kept, g->kept[span.v]);
	g->kept[span.v] = 0;
	atomic_fetch_add(&g->n_taken, 1);
	return 0;
}

static int fill_span(
	struct view *view, struct generation *g, span_t span, bool heir, enum touch touch)
{
	struct memory *m = g->set->memory;
	/* An heir that writes takes the overlay's page table, if that is still complete. */
	bool back = heir && touch == TOUCH_WRITE;
	struct span_runs runs;
	int r = generation_resolve(g, span, back ? NULL : &runs);

	if (r)
		return r;
	if (back && atomic_load(&g->span[span.v]) == GEN_RESOLVED)
		return take_resolved(view, g, span);
	if (back)
		memory_span_runs(m, g->root, span, &runs);
	r = map_span(view, m, span, &runs);
	if (!r && touch == TOUCH_WRITE && view_writes_on(view, span) && memory_charge(m, SPAN_SIZE))
		view_copy_ahead(view, span_off(span), SPAN_SIZE);
	return r;
}

int generation_fill(struct view *view, span_t span, int page, enum touch touch)
{
	struct generation *g = generation_of(view->source);
	bool heir = may_take(view, g, span);
	int r;

	/* No other VM needs the span: copy nothing, and leave the table as it is. */
	if (heir && atomic_load(&g->refs) == 1 && generation_claim(g, span)) {
		r = generation_inherit(g, span);
		if (!r)
			r = take_span(view, g, span);
		generation_unclaim(g, span, r ? GEN_DEFERRED : GEN_TAKEN);
		return r;
	}
	if (page >= 0 && !place_block(view, g, span, (unsigned)page))
		return 0;
	if (view_state(view, span) == VIEW_POISONED)
		return -ENOMEM;
	return fill_span(view, g, span, heir, touch);
}

void generation_take_ahead(struct generation *g, span_t span)
{
	struct view *heir = atomic_load(&g->heir);
	struct hurry hurry;

	if (!heir || atomic_load(&g->refs) > 1)
		return;
	/* The heir's vCPUs may wait for the lock. If this fails, the settler resolves the span. */
	hurry = hurry_begin_at(FILL_PRIORITY);
	lock_take(&heir->lock);
	if (heir->source == &g->source && may_take(heir, g, span) &&
		atomic_load(&g->span[span.v]) == GEN_DEFERRED &&
		atomic_load(&heir->arena->pieces) < view_pieces_max(heir->arena))
		generation_fill(heir, span, -1, TOUCH_WRITE);
	lock_release(&heir->lock);
	hurry_end(&hurry);
}

void generation_write_page(struct view *view, span_t span, unsigned page)
{
	lock_take(&view->lock);
	if (view_state(view, span) == VIEW_PRESENT)
		view_copy_ahead(view, off_add(span_off(span), page * PAGE_SIZE), PAGE_SIZE);
	lock_release(&view->lock);
}

int generation_touch(struct view *view, span_t span, int page)
{
	enum view_span state = view_state(view, span);
	struct hurry hurry;
	int r = 0;

	if (state == VIEW_PRESENT)
		return 0;
	hurry = hurry_begin_at(FILL_PRIORITY);
	lock_take(&view->lock);
	state = view_state(view, span);
	if (state == VIEW_POISONED || (state != VIEW_PRESENT && !view->source))
		r = -ENOMEM;
	else if (state != VIEW_PRESENT && (page < 0 || !view_has_page(view, span, (unsigned)page)))
		r = generation_fill(view, span, page, TOUCH_READ);
	if (!r)
		view_wake(view, span_off(span), SPAN_SIZE);
	lock_release(&view->lock);
	hurry_end(&hurry);
	return r;
}
