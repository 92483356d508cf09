// SPDX-License-Identifier: Apache-2.0
#include "vmm/fork/generation.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/futex.h"
#include "vmm/base/priority.h"
#include "vmm/devices/device.h"
#include "vmm/fork/frame-list.h"

void generations_init(struct generations *set, struct memory *memory, const struct ram_layout *ram,
	struct shell_pool *shells, const struct view_source *source)
{
	*set = (struct generations){
		.memory = memory, .ram = ram, .shells = shells, .source = *source
	};
	lock_init(&set->lock, LOCK_GENERATIONS);
}

void generations_destroy(struct generations *set)
{
	frame_list_put(set->ahead);
	lock_destroy(&set->lock);
}

uint64_t generations_count(struct generations *set)
{
	uint64_t n;

	lock_take(&set->lock);
	n = set->n;
	lock_release(&set->lock);
	return n;
}

int generation_new(struct generations *set, struct mmu_root *root, struct generation **out)
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
	g->source = set->source;
	g->set = set;
	g->id = atomic_fetch_add(&next_id, 1);
	g->root = root;
	atomic_init(&g->refs, 1);
	atomic_init(&g->settled, true);
	lock_take(&set->lock);
	g->all = set->all;
	set->all = g;
	set->n++;
	lock_release(&set->lock);
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
		g->set->idle(g->set->idle_arg, g);
}

static void unlist(struct generation *g)
{
	struct generation **p = &g->set->all;

	lock_take(&g->set->lock);
	while (*p != g)
		p = &(*p)->all;
	*p = g->all;
	g->set->n--;
	lock_release(&g->set->lock);
}

void generation_free(struct generation *g)
{
	unlist(g);
	generation_put(g->base);
	if (g->overlay)
		shell_pool_give(g->set->shells, g->overlay);
	device_set_free(g->devices);
	free(g->devices);
	machine_state_put(g->state);
	memory_put_root(g->set->memory, g->root);
	frame_list_put(g->list);
	free((void *)g->span);
	free(g->kept);
	free(g);
}

int generation_branch(struct generation *base, struct generation **out)
{
	/* Look at `settled` before taking the root: if the base settles in between, its root has
	 * tables that ours lacks, and we must still have a base. */
	struct generation *unsettled = atomic_load(&base->settled) ? NULL : generation_get(base);
	struct memory *m = base->set->memory;
	struct mmu_root *root;
	struct generation *g;
	int r = memory_fork_root(m, base->root, &root);

	if (r) {
		generation_put(unsettled);
		return r;
	}
	r = generation_new(base->set, root, &g);
	if (r) {
		memory_put_root(m, root);
		generation_put(unsettled);
		return r;
	}
	g->base = unsettled;
	/* Mark as unsettled before publishing: the root is still the base's, and no view may map
	 * the frames that it names. */
	atomic_store(&g->settled, false);
	g->span = calloc(spans_in(g->set->ram->size), 1); /* GEN_DEFERRED */
	g->kept = calloc(spans_in(g->set->ram->size), sizeof(*g->kept));
	if (!g->span || !g->kept) {
		generation_put(g);
		return -ENOMEM;
	}
	*out = g;
	return 0;
}

/* ---- resolving ---- */

/* The order of views and BUSY spans: that of generation_lock_overlay(). Ids go up with time. */
static const char younger_first[] = "younger generations come first";

static uint64_t span_order(const struct generation *g)
{
	/* Taken before g's overlay, and after the overlays of younger generations. */
	return 2 * g->id + 1;
}

/* Resolves the base's span. *root receives the base's root, or NULL if there is no base. */
static int resolve_base(struct generation *g, span_t span, struct mmu_root **root)
{
	*root = g->base ? g->base->root : NULL;
	return g->base ? generation_resolve(g->base, span, NULL) : 0;
}

int generation_inherit(struct generation *g, span_t span)
{
	struct mmu_root *base;
	int r = resolve_base(g, span, &base);

	return r ? r : memory_share_span(g->set->memory, g->root, base, span, NULL);
}

/* bitmap names pages of a span that a view holds privately, at src + page * 4096. Clears the bits
 * of the pages that are the same in root. Returns the number of pages left, or -errno. */
static int leave_out_unchanged(struct memory *m, struct mmu_root *root, span_t span,
	uint64_t bitmap[SPAN_PAGES / 64], const uint8_t *src)
{
	struct span_runs runs;
	uint8_t page[PAGE_SIZE];
	int left = 0;

	memory_span_runs(m, root, span, &runs);
	for (unsigned i = 0; i < runs.n; i++)
		for (uint64_t p = 0; p < runs.run[i].n_pages; p++) {
			unsigned bit = page_of(off_add(runs.run[i].off, p * PAGE_SIZE));
			int r;

			if (!(bitmap[bit / 64] >> (bit % 64) & 1))
				continue;
			r = memory_read_frames(m, frame_add(runs.run[i].frame, p), 1, page);
			if (r)
				return r;
			if (memcmp(page, src + (size_t)bit * PAGE_SIZE, PAGE_SIZE) != 0)
				left++;
			else
				bitmap[bit / 64] &= ~(1ull << (bit % 64));
		}
	return left;
}

/* Finds the pages of a span in which the overlay differs from the root `base`, or, if base is NULL,
 * from g's own root. Returns their number or -errno. *readable: the overlay shows the other pages,
 * too. */
static int find_added(struct generation *g, struct mmu_root *base, span_t span,
	uint64_t bitmap[SPAN_PAGES / 64], bool *readable)
{
	struct view *overlay = g->overlay->view;
	bool touched, copies;
	int n;

	/* From here on a fault thread can only add copies of the base's pages to the overlay. */
	generation_lock_overlay(g);
	touched = view_state(overlay, span) != VIEW_ABSENT;
	*readable = view_state(overlay, span) != VIEW_POISONED;
	copies = overlay->flags[span.v] & VIEW_COPIES;
	lock_release(&overlay->lock);
	/* In an ABSENT span the VM has written nothing. */
	if (!touched)
		return 0;
	n = view_private_pages(overlay, span, bitmap);
	/* Some private pages may be copies that the VM never wrote to. */
	if (n > 0 && copies)
		n = leave_out_unchanged(g->set->memory, base ? base : g->root, span, bitmap,
			view_at(overlay, span_off(span)));
	return n;
}

static int resolve_busy(struct generation *g, span_t span, uint8_t *state, struct span_runs *runs)
{
	struct memory *m = g->set->memory;
	uint64_t bitmap[SPAN_PAGES / 64];
	struct span_store store = { .root = g->root,
		.span = span,
		.bitmap = bitmap,
		.src = view_at(g->overlay->view, span_off(span)),
		.runs = runs };
	int n, r = resolve_base(g, span, &store.base);

	if (r)
		return r;
	*state = GEN_RESOLVED;
	n = find_added(g, store.base, span, bitmap, &store.moved_all);
	if (n < 0)
		return n;
	if (!n)
		return memory_share_span(m, g->root, store.base, span, runs);
	r = memory_store_span(m, &store);
	if (r)
		return r;
	/* These pages are held twice until the overlay is gone. */
	g->kept[span.v] = (uint16_t)n;
	atomic_fetch_add(&g->n_kept, (unsigned)n);
	if (store.moved_all) {
		*state = GEN_COPIED;
		atomic_fetch_add(&g->n_moved, SPAN_PAGES - (unsigned)n);
	}
	return 0;
}

/* Not inlined: tests/tsan.supp names this function, to tell the race detector that the order is
 * intended. */
__attribute__((noinline)) void generation_lock_overlay(const struct generation *g)
{
	lock_take_nested(&g->overlay->view->lock, 2 * g->id, younger_first);
}

bool generation_claim(struct generation *g, span_t span)
{
	lock_may_enter(LOCK_SPAN, &g->span[span.v], span_order(g), younger_first);
	for (;;) {
		unsigned event = atomic_load(&g->event);
		uint8_t s = GEN_DEFERRED;

		if (atomic_compare_exchange_strong(&g->span[span.v], &s, GEN_BUSY)) {
			lock_entered(LOCK_SPAN, &g->span[span.v], span_order(g));
			return true;
		}
		if (s != GEN_BUSY)
			return false;
		atomic_fetch_add(&g->n_waiting, 1);
		if (atomic_load(&g->span[span.v]) == GEN_BUSY)
			futex_wait(&g->event, event, 0);
		atomic_fetch_sub(&g->n_waiting, 1);
	}
}

void generation_unclaim(struct generation *g, span_t span, uint8_t state)
{
	uint8_t was;

	lock_left(&g->span[span.v]);
	was = atomic_exchange(&g->span[span.v], state);
	assert(was == GEN_BUSY && state != GEN_BUSY); /* the table in generation.h */
	(void)was;
	atomic_fetch_add(&g->event, 1);
	if (atomic_load(&g->n_waiting))
		futex_wake_all(&g->event);
}

int generation_resolve(struct generation *g, span_t span, struct span_runs *runs)
{
	uint8_t state = GEN_DEFERRED;
	struct hurry hurry;
	bool claimed;
	int r = 0;

	if (!g->span || atomic_load(&g->span[span.v]) > GEN_BUSY)
		return memory_share_span(g->set->memory, g->root, NULL, span, runs);
	/* Other threads may wait for the span while it is BUSY. */
	hurry = hurry_begin_at(FILL_PRIORITY);
	claimed = generation_claim(g, span);
	if (claimed) {
		r = resolve_busy(g, span, &state, runs);
		generation_unclaim(g, span, r ? GEN_DEFERRED : state);
	}
	hurry_end(&hurry);
	if (!claimed)
		return memory_share_span(g->set->memory, g->root, NULL, span, runs);
	if (!r)
		atomic_fetch_add_explicit(&g->set->resolved, 1, memory_order_relaxed);
	return r;
}

/* ---- accounts ---- */

uint64_t generation_duplicates(struct generation *g)
{
	return (uint64_t)atomic_load(&g->n_kept) + atomic_load(&g->n_moved);
}

uint64_t generation_view_duplicates(struct view *view, struct generation *g)
{
	uint64_t pages = 0;
	uint64_t bitmap[SPAN_PAGES / 64];

	for (span_t s = span_nr(0); s.v < spans_in(g->set->ram->size); s.v++) {
		int n, left;

		lock_take(&view->lock);
		if (view->flags[s.v] & VIEW_COPIES && !generation_resolve(g, s, NULL)) {
			n = view_private_pages(view, s, bitmap);
			left = n > 0 ? leave_out_unchanged(g->set->memory, g->root, s, bitmap,
					       view_at(view, span_off(s)))
				     : n;
			pages += left >= 0 ? (uint64_t)(n - left) : 0;
		}
		lock_release(&view->lock);
	}
	return pages;
}
