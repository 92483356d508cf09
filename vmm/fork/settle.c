// SPDX-License-Identifier: Apache-2.0
/* Settling resolves all spans of a generation, so that it needs neither base nor overlay. */
#include "vmm/fork/settle.h"

#include <string.h>

#include "vmm/base/priority.h"
#include "vmm/fork/fill.h"

/* The settler looks at most this many times whether the heir still takes spans back. */
#define KEEP_LOOKS 20u

#define SETTLE_SPANS 64u

/* Drops base and overlay: no span is deferred any more. Takes the heir's lock, because a thread
 * that fills the heir looks at the overlay under this lock. */
static void let_go(struct generation *g)
{
	struct view *heir = atomic_load(&g->heir);
	struct shell *overlay = g->overlay;

	if (heir)
		lock_take(&heir->lock);
	atomic_store(&g->heir, NULL);
	g->overlay = NULL;
	if (heir)
		lock_release(&heir->lock);
	atomic_store(&g->settled, true);
	atomic_store(&g->n_kept, 0);
	generation_put(g->base);
	g->base = NULL;
	shell_pool_give(g->set->shells, overlay);
}

/* Whether the heir has taken spans back since the last look, and may take more. */
static bool heir_wants_more(struct generation *g)
{
	struct view *heir = atomic_load(&g->heir);
	unsigned taken = atomic_load(&g->n_taken);
	bool wants;

	if (!heir || taken == g->taken_seen || g->looks == KEEP_LOOKS)
		return false;
	g->taken_seen = taken;
	g->looks++;
	lock_take(&heir->lock);
	wants = heir->source == &g->source;
	lock_release(&heir->lock);
	return wants;
}

/* Resolves the spans of which the overlay has no page: they become what base has. At a high
 * priority, since other threads may wait for a span that is BUSY. */
static int settle_empty(struct generation *g, span_t first, uint64_t n, const uint8_t *has)
{
	struct hurry hurry = hurry_begin_at(FILL_PRIORITY);
	int r = 0;

	for (uint64_t i = 0; i < n && !r; i++) {
		span_t span = span_add(first, i);

		if (has[i] || !generation_claim(g, span))
			continue;
		r = generation_inherit(g, span);
		generation_unclaim(g, span, r ? GEN_DEFERRED : GEN_RESOLVED);
	}
	hurry_end(&hurry);
	return r;
}

/* Settles n spans from `first` on. One scan of the overlay finds which of these have private pages.
 * A scan of all of a big view would hold up threads that change the memory map. */
static int settle_some(struct generation *g, span_t first, uint64_t n)
{
	uint8_t has[SETTLE_SPANS];
	int r;

	if (view_private_spans(g->overlay->view, first, n, has) < 0)
		memset(has, 1, n);
	r = settle_empty(g, first, n, has);
	for (uint64_t i = 0; i < n && !r && atomic_load(&g->refs); i++)
		if (has[i]) {
			generation_take_ahead(g, span_add(first, i));
			r = generation_resolve(g, span_add(first, i), NULL);
			hurry_rest();
		}
	hurry_rest();
	return r;
}

int generation_settle(struct generation *g, bool hurry)
{
	uint64_t spans = spans_in(g->set->ram->size);
	int r = 0;

	for (span_t s = span_nr(0); s.v < spans && !r && atomic_load(&g->refs);
		s = span_add(s, SETTLE_SPANS))
		r = settle_some(g, s, spans - s.v < SETTLE_SPANS ? spans - s.v : SETTLE_SPANS);
	if (!atomic_load(&g->refs))
		return 0; /* nothing refers to the generation any more: it will be freed */
	memory_trim(g->set->memory);
	if (!r && !hurry && heir_wants_more(g))
		return 1;
	if (!r)
		let_go(g);
	return r;
}
