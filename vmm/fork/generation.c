// SPDX-License-Identifier: Apache-2.0
#include "vmm/fork/generation.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/futex.h"
#include "vmm/base/priority.h"
#include "vmm/devices/device.h"

void generations_init(struct generations *set, struct memory *memory, const struct ram_layout *ram,
	struct shell_pool *shells, const struct view_source *source)
{
	*set = (struct generations){
		.memory = memory, .ram = ram, .shells = shells, .source = *source
	};
	pthread_mutex_init(&set->lock, NULL);
}

void generations_destroy(struct generations *set)
{
	pthread_mutex_destroy(&set->lock);
}

uint64_t generations_count(struct generations *set)
{
	uint64_t n;

	pthread_mutex_lock(&set->lock);
	n = set->n;
	pthread_mutex_unlock(&set->lock);
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
	pthread_mutex_lock(&set->lock);
	g->all = set->all;
	set->all = g;
	set->n++;
	pthread_mutex_unlock(&set->lock);
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

	pthread_mutex_lock(&g->set->lock);
	while (*p != g)
		p = &(*p)->all;
	*p = g->all;
	g->set->n--;
	pthread_mutex_unlock(&g->set->lock);
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
	/* From now on: nobody may map what its root, the base's as yet, says of any span. */
	atomic_store(&g->settled, false);
	g->span = calloc(g->set->ram->size >> SPAN_SHIFT, 1); /* GEN_DEFERRED */
	g->kept = calloc(g->set->ram->size >> SPAN_SHIFT, sizeof(*g->kept));
	if (!g->span || !g->kept) {
		generation_put(g);
		return -ENOMEM;
	}
	*out = g;
	return 0;
}

/* ---- resolving ---- */

int generation_inherit(struct generation *g, uint64_t span)
{
	int r;

	if (!g->base)
		return 0;
	r = generation_resolve(g->base, span);
	return r ? r : memory_share_span(g->set->memory, g->root, g->base->root, span);
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
	struct memory *m = g->set->memory;
	uint64_t bitmap[SPAN_PAGES / 64];
	bool moved_all, touched, copies;
	int n, r = generation_inherit(g, span);

	if (r)
		return r;
	*state = GEN_RESOLVED;
	/* What a fault thread may still add from here on are copies of what base has. */
	generation_lock_overlay(overlay);
	touched = view_state(overlay, span) != VIEW_ABSENT;
	moved_all = view_state(overlay, span) != VIEW_POISONED; /* the rest of it can be read */
	copies = overlay->flags[span] & VIEW_COPIES;
	pthread_mutex_unlock(&overlay->lock);
	/* A span it never touched has nothing to add. */
	if (!touched)
		return 0;
	n = view_private_pages(overlay, span, bitmap);
	/* Pages that were copied there, and never written to, are those of base still. */
	if (n > 0 && copies)
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

/* Not inlined: its name tells the race detector that this order is meant (tests/tsan.supp). */
__attribute__((noinline)) void generation_lock_overlay(struct view *overlay)
{
	pthread_mutex_lock(&overlay->lock);
}

bool generation_claim(struct generation *g, uint64_t span)
{
	for (;;) {
		unsigned event = atomic_load(&g->event);
		uint8_t s = GEN_DEFERRED;

		if (atomic_compare_exchange_strong(&g->span[span], &s, GEN_BUSY))
			return true;
		if (s != GEN_BUSY)
			return false;
		atomic_fetch_add(&g->n_waiting, 1);
		if (atomic_load(&g->span[span]) == GEN_BUSY)
			futex_wait(&g->event, event, 0);
		atomic_fetch_sub(&g->n_waiting, 1);
	}
}

void generation_unclaim(struct generation *g, uint64_t span, uint8_t state)
{
	atomic_store(&g->span[span], state);
	atomic_fetch_add(&g->event, 1);
	if (atomic_load(&g->n_waiting))
		futex_wake_all(&g->event);
}

int generation_resolve(struct generation *g, uint64_t span)
{
	uint8_t state = GEN_DEFERRED;
	struct hurry hurry;
	int r;

	if (!g->span || atomic_load(&g->span[span]) > GEN_BUSY)
		return 0;
	/* Others wait for a span that is BUSY. */
	hurry = hurry_begin_at(FILL_PRIORITY);
	if (!generation_claim(g, span)) {
		hurry_end(&hurry);
		return 0;
	}
	r = resolve_busy(g, span, &state);
	generation_unclaim(g, span, r ? GEN_DEFERRED : state);
	hurry_end(&hurry);
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
	uint64_t spans = g->set->ram->size >> SPAN_SHIFT, pages = 0;
	uint64_t bitmap[SPAN_PAGES / 64];

	for (uint64_t s = 0; s < spans; s++) {
		int n, left;

		pthread_mutex_lock(&view->lock);
		if (view->flags[s] & VIEW_COPIES && !generation_resolve(g, s)) {
			n = view_private_pages(view, s, bitmap);
			left = n > 0 ? leave_out_unchanged(g->set->memory, g->root, s, bitmap,
					       view->base + (s << SPAN_SHIFT))
				     : n;
			pages += left >= 0 ? (uint64_t)(n - left) : 0;
		}
		pthread_mutex_unlock(&view->lock);
	}
	return pages;
}
