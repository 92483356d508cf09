// SPDX-License-Identifier: Apache-2.0
#include "vmm/generation.h"

#include <errno.h>
#include <linux/userfaultfd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "vmm/futex.h"
#include "vmm/vm.h"

/* A span in more pieces than this is copied into a view rather than mapped: a mapping costs a VMA
 * and about as much time as copying two pages. */
#define PIECES_PER_SPAN 64u
/* All views together stay well under the default vm.max_map_count (65530). */
#define PIECES_MAX  40000u
#define LIST_PIECES 64u /* mappings that a view starts with */
/* Times that the worker looks again whether the heir still takes spans back. */
#define KEEP_LOOKS 20u

int generation_new(struct ramet_family *f, struct mmu_root *root, struct generation **out)
{
	static atomic_uint_fast64_t next_id;
	struct generation *g = calloc(1, sizeof(*g));

	if (!g)
		return -ENOMEM;
	g->devices = calloc(1, sizeof(*g->devices));
	if (!g->devices) {
		free(g);
		return -ENOMEM;
	}
	g->family = f;
	g->id = atomic_fetch_add(&next_id, 1);
	g->root = root;
	atomic_init(&g->refs, 1);
	atomic_init(&g->settled, true);
	pthread_mutex_lock(&f->generations_lock);
	g->all = f->all_generations;
	f->all_generations = g;
	f->n_generations++;
	pthread_mutex_unlock(&f->generations_lock);
	*out = g;
	return 0;
}

struct generation *generation_get(struct generation *g)
{
	atomic_fetch_add_explicit(&g->refs, 1, memory_order_relaxed);
	return g;
}

void generation_put(struct generation *g)
{
	if (g && atomic_fetch_sub(&g->refs, 1) == 1)
		worker_free(g->family, g);
}

static void unlist(struct generation *g)
{
	struct generation **p = &g->family->all_generations;

	pthread_mutex_lock(&g->family->generations_lock);
	while (*p != g)
		p = &(*p)->all;
	*p = g->all;
	g->family->n_generations--;
	pthread_mutex_unlock(&g->family->generations_lock);
}

void generation_free(struct generation *g)
{
	unlist(g);
	generation_put(g->base);
	if (g->overlay)
		shells_give(g->family, g->overlay);
	device_set_free(g->devices);
	free(g->devices);
	machine_state_put(g->state);
	memory_put_root(&g->family->memory, g->root);
	free(g->list);
	free((void *)g->span);
	free(g->kept);
	free(g);
}

int generation_branch(struct generation *base, struct generation **out)
{
	/* Before the root is taken: a base that settles meanwhile would else have tables that we
	 * lack. */
	struct generation *unsettled = atomic_load(&base->settled) ? NULL : generation_get(base);
	struct memory *m = &base->family->memory;
	struct mmu_root *root;
	struct generation *g;
	int r = memory_fork_root(m, base->root, &root);

	if (r) {
		generation_put(unsettled);
		return r;
	}
	r = generation_new(base->family, root, &g);
	if (r) {
		memory_put_root(m, root);
		generation_put(unsettled);
		return r;
	}
	g->base = unsettled;
	/* From now on: nobody may map what its root, the base's as yet, says of any span. */
	atomic_store(&g->settled, false);
	g->span = calloc(g->family->ram.size >> SPAN_SHIFT, 1); /* GEN_DEFERRED */
	g->kept = calloc(g->family->ram.size >> SPAN_SHIFT, sizeof(*g->kept));
	if (!g->span || !g->kept) {
		generation_put(g);
		return -ENOMEM;
	}
	*out = g;
	return 0;
}

/* ---- resolving ---- */

/* The span is BUSY and ours. Brings the root's table up to what base has. */
static int inherit(struct generation *g, uint64_t span)
{
	int r;

	if (!g->base)
		return 0;
	r = generation_resolve(g->base, span);
	return r ? r : memory_share_span(&g->family->memory, g->root, g->base->root, span);
}

/* Leaves those pages out of bitmap that a view holds privately (at src + page * 4096) but which are
 * the same as what the root says. Returns how many are left, or -errno. */
static int leave_out_unchanged(struct memory *m, struct mmu_root *root, uint64_t span,
	uint64_t bitmap[SPAN_PAGES / 64], const uint8_t *src)
{
	struct frame_run run[SPAN_PAGES];
	uint64_t off = span << SPAN_SHIFT, next;
	unsigned n = memory_runs(m, root, off, off + SPAN_SIZE, run, SPAN_PAGES, &next);
	uint8_t page[PAGE_SIZE];
	int left = 0;

	for (unsigned i = 0; i < n; i++)
		for (uint64_t p = 0; p < run[i].n_pages; p++) {
			uint64_t at = run[i].off + p * PAGE_SIZE - off;
			unsigned bit = (unsigned)(at / PAGE_SIZE);
			int r;

			if (!(bitmap[bit / 64] >> (bit % 64) & 1))
				continue;
			r = memory_read_frames(m, run[i].frame + p, 1, page);
			if (r)
				return r;
			if (memcmp(page, src + at, PAGE_SIZE) != 0)
				left++;
			else
				bitmap[bit / 64] &= ~(1ull << (bit % 64));
		}
	return left;
}

static int resolve_busy(struct generation *g, uint64_t span, uint8_t *state)
{
	struct view *overlay = g->overlay->view;
	const uint8_t *src = overlay->base + (span << SPAN_SHIFT);
	struct memory *m = &g->family->memory;
	uint64_t bitmap[SPAN_PAGES / 64];
	bool moved_all = false;
	int n, r = inherit(g, span);

	if (r)
		return r;
	*state = GEN_RESOLVED;
	/* A span it never touched has nothing to add. */
	if (overlay->span[span] == VIEW_ABSENT)
		return 0;
	n = view_private_pages(overlay, span, bitmap);
	/* Pages that were copied there, and never written to, are those of base still. */
	if (n > 0 && (overlay->flags[span] & VIEW_COPIES))
		n = leave_out_unchanged(m, g->root, span, bitmap, src);
	if (n <= 0)
		return n;
	r = memory_store_span(m, g->root, span, bitmap, src, &moved_all);
	if (r)
		return r;
	/* Until the overlay is gone. */
	g->kept[span] = (uint16_t)n;
	atomic_fetch_add(&g->n_kept, (unsigned)n);
	if (moved_all) {
		*state = GEN_COPIED;
		atomic_fetch_add(&g->n_moved, SPAN_PAGES - (unsigned)n);
	}
	return 0;
}

/* Makes a DEFERRED span BUSY for the caller. False: somebody else has done it meanwhile. */
static bool claim(struct generation *g, uint64_t span)
{
	for (;;) {
		unsigned event = atomic_load(&g->event);
		uint8_t s = GEN_DEFERRED;

		if (atomic_compare_exchange_strong(&g->span[span], &s, GEN_BUSY))
			return true;
		if (s != GEN_BUSY)
			return false;
		futex_wait(&g->event, event, 0);
	}
}

static void unclaim(struct generation *g, uint64_t span, uint8_t state)
{
	atomic_store(&g->span[span], state);
	atomic_fetch_add(&g->event, 1);
	futex_wake_all(&g->event);
}

int generation_resolve(struct generation *g, uint64_t span)
{
	uint8_t state = GEN_DEFERRED;
	int r;

	if (!g->span || !claim(g, span))
		return 0;
	r = resolve_busy(g, span, &state);
	unclaim(g, span, r ? GEN_DEFERRED : state);
	if (!r)
		atomic_fetch_add_explicit(&g->family->resolved, 1, memory_order_relaxed);
	return r;
}

/* ---- filling views ---- */

/* Copies n runs of pages of a span into a view as private pages, for want of mappings. */
static int copy_runs(struct view *view, struct memory *m, const struct frame_run *run, unsigned n)
{
	uint8_t *buf =
		mmap(NULL, SPAN_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int r = 0;

	if (buf == MAP_FAILED)
		return -ENOMEM;
	for (unsigned i = 0; i < n && !r;) {
		uint64_t off = run[i].off, end = off;

		for (; i < n && run[i].off == end && !r; i++) {
			r = memory_read_frames(m, run[i].frame, run[i].n_pages, buf + (end - off));
			end += run[i].n_pages * PAGE_SIZE;
		}
		if (!r)
			r = view_copy(view, off, end - off, buf);
	}
	munmap(buf, SPAN_SIZE);
	return r;
}

/* Takes the blocks that have been placed in a view out of runs of one span. */
static unsigned cut_placed(struct frame_run *run, unsigned n, uint32_t blocks)
{
	struct frame_run old[SPAN_PAGES];
	unsigned kept = 0;

	memcpy(old, run, n * sizeof(*run));
	for (unsigned i = 0; i < n; i++)
		for (uint64_t p = 0, step; p < old[i].n_pages; p += step) {
			uint64_t off = old[i].off + p * PAGE_SIZE;
			unsigned page = (unsigned)(off % SPAN_SIZE / PAGE_SIZE);

			step = VIEW_BLOCK_PAGES - page % VIEW_BLOCK_PAGES;
			if (step > old[i].n_pages - p)
				step = old[i].n_pages - p;
			if (blocks >> (page / VIEW_BLOCK_PAGES) & 1)
				continue;
			if (p && kept &&
				run[kept - 1].off + run[kept - 1].n_pages * PAGE_SIZE == off)
				run[kept - 1].n_pages += step;
			else
				run[kept++] = (struct frame_run){ off, old[i].frame + p, step };
		}
	return kept;
}

static int map_span(struct view *view, struct generation *g, uint64_t span)
{
	struct memory *m = &g->family->memory;
	struct frame_run run[SPAN_PAGES];
	uint64_t off = span << SPAN_SHIFT, next;
	unsigned n = memory_runs(m, g->root, off, off + SPAN_SIZE, run, SPAN_PAGES, &next);

	if (view->span[span] == VIEW_PARTIAL)
		n = cut_placed(run, n, view_placed(view, span));
	if (n > PIECES_PER_SPAN || (n > 1 && atomic_load(&view->arena->pieces) + n > PIECES_MAX))
		return copy_runs(view, m, run, n);
	for (unsigned i = 0; i < n; i++) {
		int r = view_map(view, run[i].off, run[i].frame, run[i].n_pages, false);
		if (!r)
			continue;
		/* What is mapped may have been written to, so there is no way back; the rest is
		 * still absent. */
		if (i && copy_runs(view, m, run + i, n - i))
			view_poison(view, span);
		return i && view->span[span] == VIEW_PRESENT ? 0 : r;
	}
	return 0;
}

/* The overlay holds this span just as the VM left it: take it, page table and all. */
static int take_span(struct view *view, struct generation *g, uint64_t span)
{
	int r = view_take(view, g->overlay->view, span);

	if (!r)
		atomic_fetch_add_explicit(&g->family->taken_back, 1, memory_order_relaxed);
	return r;
}

/*
 * What somebody waits for right now need not wait until its span is resolved: the block around it
 * is placed, from the overlay's view, which shows its private pages and else those it was born
 * with. > 0: not possible, or not worth it.
 */
static int place_block(struct view *view, struct generation *g, uint64_t span, unsigned page)
{
	struct view *overlay;
	int r = 1;

	if (!g->span || !claim(g, span))
		return 1;
	/* BUSY spans keep their overlay. */
	overlay = g->overlay->view;
	if (overlay->span[span] == VIEW_PRESENT)
		r = view_place(view, span, page, overlay->base + (span << SPAN_SHIFT));
	unclaim(g, span, GEN_DEFERRED);
	return r;
}

static bool may_take(const struct view *view, const struct generation *g, uint64_t span)
{
	return view->span[span] == VIEW_ABSENT && !atomic_load(&g->settled) &&
	       atomic_load(&g->heir) == view && g->overlay && view_can_take(g->overlay->view, span);
}

/* Others have frames with the same by now; but who writes to it would copy every page of those. */
static int take_resolved(struct view *view, struct generation *g, uint64_t span)
{
	int r = take_span(view, g, span);

	if (r)
		return r;
	view->flags[span] |= VIEW_COPIES;
	atomic_fetch_sub(&g->n_kept, g->kept[span]);
	g->kept[span] = 0;
	atomic_fetch_add(&g->n_taken, 1);
	return 0;
}

static int fill_span(
	struct view *view, struct generation *g, uint64_t span, bool heir, enum touch touch)
{
	int r = generation_resolve(g, span);

	if (r)
		return r;
	if (heir && touch == TOUCH_WRITE && atomic_load(&g->span[span]) == GEN_RESOLVED)
		return take_resolved(view, g, span);
	r = map_span(view, g, span);
	if (!r && touch == TOUCH_WRITE && view_writes_on(view, span))
		view_copy_ahead(view, span);
	return r;
}

int generation_fill(struct view *view, uint64_t span, int page, enum touch touch)
{
	struct generation *g = view->source;
	bool heir = may_take(view, g, span);
	int r;

	/* Nobody else needs it: no copy is made, the table stays as it was (references 1 mean
	 * reuse). */
	if (heir && atomic_load(&g->refs) == 1 && claim(g, span)) {
		r = inherit(g, span);
		if (!r)
			r = take_span(view, g, span);
		unclaim(g, span, r ? GEN_DEFERRED : GEN_TAKEN);
		return r;
	}
	if (page >= 0 && !place_block(view, g, span, (unsigned)page))
		return 0;
	return fill_span(view, g, span, heir, touch);
}

int generation_touch(struct view *view, uint64_t span, int page)
{
	uint8_t state = __atomic_load_n(&view->span[span], __ATOMIC_ACQUIRE);
	int r = 0;

	if (state == VIEW_PRESENT)
		return 0;
	pthread_mutex_lock(&view->lock);
	state = view->span[span];
	if (state == VIEW_POISONED || (state != VIEW_PRESENT && !view->source))
		r = -ENOMEM;
	else if (state != VIEW_PRESENT && (page < 0 || !view_has_page(view, span, (unsigned)page)))
		r = generation_fill(view, span, page, TOUCH_READ);
	if (!r)
		view_wake(view, span << SPAN_SHIFT, SPAN_SIZE);
	pthread_mutex_unlock(&view->lock);
	return r;
}

static struct frame_list *make_list(struct generation *g)
{
	struct frame_list *l = malloc(sizeof(*l) + LIST_PIECES * sizeof(l->run[0]));
	uint64_t next;

	if (!l)
		return NULL;
	l->n = memory_runs(
		&g->family->memory, g->root, 0, g->family->ram.size, l->run, LIST_PIECES, &next);
	l->whole = next == g->family->ram.size;
	/* What is cut short by the limit stays absent from the next whole span on. */
	while (!l->whole && l->n &&
		(l->run[l->n - 1].off + l->run[l->n - 1].n_pages * PAGE_SIZE) % SPAN_SIZE) {
		struct frame_run *last = &l->run[l->n - 1];
		uint64_t end = (last->off + last->n_pages * PAGE_SIZE) & ~(SPAN_SIZE - 1);

		if (end > last->off)
			last->n_pages = (end - last->off) / PAGE_SIZE;
		else
			l->n--;
	}
	return l;
}

int generation_populate(struct view *view, struct generation *g)
{
	struct frame_list *l, *none = NULL;
	int r = 0;

	if (!atomic_load(&g->settled))
		return 0; /* all of it is filled on demand */
	l = atomic_load(&g->list);
	if (!l) {
		l = make_list(g);
		if (!l)
			return -ENOMEM;
		if (!atomic_compare_exchange_strong(&g->list, &none, l)) {
			free(l);
			l = none;
		}
	}
	if (atomic_load(&view->arena->pieces) + l->n > PIECES_MAX)
		return 0;
	for (unsigned i = 0; i < l->n && !r; i++)
		r = view_map(view, l->run[i].off, l->run[i].frame, l->run[i].n_pages, false);
	return r;
}

/* Nothing is deferred any more. The heir's lock, since it looks at the overlay under it. */
static void let_go(struct generation *g)
{
	struct view *heir = atomic_load(&g->heir);
	struct shell *overlay = g->overlay;

	if (heir)
		pthread_mutex_lock(&heir->lock);
	atomic_store(&g->heir, NULL);
	g->overlay = NULL;
	if (heir)
		pthread_mutex_unlock(&heir->lock);
	atomic_store(&g->settled, true);
	atomic_store(&g->n_kept, 0);
	generation_put(g->base);
	g->base = NULL;
	shells_give(g->family, overlay);
}

/* The heir goes on taking back spans that it writes to; but not for ever. */
static bool heir_wants_more(struct generation *g)
{
	struct view *heir = atomic_load(&g->heir);
	unsigned taken = atomic_load(&g->n_taken);
	bool wants;

	if (!heir || taken == g->taken_seen || g->looks == KEEP_LOOKS)
		return false;
	g->taken_seen = taken;
	g->looks++;
	pthread_mutex_lock(&heir->lock);
	wants = heir->source == g;
	pthread_mutex_unlock(&heir->lock);
	return wants;
}

int generation_settle(struct generation *g, bool hurry)
{
	uint64_t spans = g->family->ram.size >> SPAN_SHIFT;
	int r = 0;

	for (uint64_t s = 0; s < spans && !r; s++) {
		if (!atomic_load(&g->refs))
			return 0; /* nobody wants it any more: it is about to be freed */
		r = generation_resolve(g, s);
	}
	memory_trim(&g->family->memory);
	if (!r && !hurry && heir_wants_more(g))
		return 1;
	if (!r)
		let_go(g);
	return r;
}

uint64_t generation_duplicates(struct generation *g)
{
	return (uint64_t)atomic_load(&g->n_kept) + atomic_load(&g->n_moved);
}

uint64_t generation_view_duplicates(struct view *view, struct generation *g)
{
	uint64_t spans = g->family->ram.size >> SPAN_SHIFT, pages = 0;
	uint64_t bitmap[SPAN_PAGES / 64];

	for (uint64_t s = 0; s < spans; s++) {
		int n, left;

		pthread_mutex_lock(&view->lock);
		if (view->flags[s] & VIEW_COPIES && !generation_resolve(g, s)) {
			n = view_private_pages(view, s, bitmap);
			left = n > 0 ? leave_out_unchanged(&g->family->memory, g->root, s, bitmap,
					       view->base + (s << SPAN_SHIFT))
				     : n;
			pages += left >= 0 ? (uint64_t)(n - left) : 0;
		}
		pthread_mutex_unlock(&view->lock);
	}
	return pages;
}
