/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Generations: immutable VMs. A generation has a root (second-level tables), the machine's state
 * and its devices'. VMs are born from it, any number, at any time.
 *
 * Freezing a VM that has private pages makes a generation whose spans are *deferred*: a span's true
 * table is the one it shares with the VM's birth generation (`base`) plus the pages that are
 * private in the view the VM was running on
 * (`overlay`), which nobody writes from then on. A span is resolved when somebody needs it, or by
 * the worker: its private pages move into frames, its table is published, and everyone born later
 * finds it so.
 *
 *   DEFERRED -> BUSY -> RESOLVED   its table is the truth
 *                    -> COPIED     the same, and it relies on none of the frames the overlay maps
 *                    -> TAKEN      nobody but the VM that was frozen needs it any more: it has
 * taken the overlay's pages back, and the table lacks them
 *
 * A view maps only frames that its source generation's root names, so the reference to the
 * generation keeps them alive.
 */
#ifndef RAMET_VMM_FORK_GENERATION_H
#define RAMET_VMM_FORK_GENERATION_H

#include <stdatomic.h>

#include "vmm/kvm/shell-pool.h"
#include "vmm/memory/span.h"

struct device_set;
struct generation;

/* All generations of a family, and what they need of it. */
struct generations {
	struct memory *memory;
	const struct ram_layout *ram;
	struct shell_pool *shells; /* where the overlays go back to */
	/* Nothing refers to g any more. Called from any thread, with any lock held;
	 * generation_free() follows later. The settler sets it. */
	void (*idle)(void *arg, struct generation *g);
	void *idle_arg;
	struct view_source source; /* what their views are filled by */

	pthread_mutex_t lock; /* guards the next two */
	struct generation *all;
	uint64_t n;
	_Atomic uint64_t resolved, taken_back; /* spans, ever */
};

void generations_init(struct generations *set, struct memory *memory, const struct ram_layout *ram,
	struct shell_pool *shells, const struct view_source *source);
void generations_destroy(struct generations *set); /* all have been freed */
uint64_t generations_count(struct generations *set);

enum { GEN_DEFERRED, GEN_BUSY, GEN_RESOLVED, GEN_COPIED, GEN_TAKEN };

struct generation {
	struct view_source source; /* of views: first, see generation_of() */
	struct generations *set;   /* that it is in */
	uint64_t id;
	/* VMs whose birth or home it is, and generations whose base it is. The last put leaves it
	 * to the worker. */
	atomic_uint refs;
	struct mmu_root *root;
	struct machine_state *state; /* NULL until frozen: the VM that boots runs on its frames */
	struct device_set *devices;
	/* What the guest had told by then (doorbell), and the births it had been through. */
	uint32_t phase, counter;
	uint64_t births;

	atomic_bool settled; /* nothing is deferred, and base and overlay are gone */
	struct generation *base;
	struct shell *overlay;	   /* the old shell, whose view that is */
	struct view *_Atomic heir; /* the view that may take spans back, while its source is this */
	atomic_uint event;	   /* futex: a BUSY span is so no more */
	atomic_uint n_waiting;	   /* for that */
	_Atomic uint8_t *span;	   /* NULL: never had a deferred span */
	/* Pages of each span that are in frames and, still, in the overlay; the sum; those of other
	 * generations that were copied along (GEN_COPIED), at most. */
	uint16_t *kept;
	atomic_uint n_kept, n_moved;
	atomic_uint n_taken;	    /* spans that the heir took though they were resolved */
	unsigned taken_seen, looks; /* the worker's, see generation_settle() */

	/* All of RAM as mappings, once nothing is deferred; made by the first who wants it. */
	struct frame_list *_Atomic list;
	struct generation *next, *next_dead; /* in the queues of the worker */
	uint64_t settle_ns;		     /* not before */
	struct generation *all;		     /* the next in set->all */
};

static inline struct generation *generation_of(struct view_source *source)
{
	return (struct generation *)source;
}

struct frame_list {
	unsigned n;
	bool whole; /* all RAM is in it; else the rest stays ABSENT in a view */
	struct frame_run run[];
};

/* A generation with that root (taken over on success), one reference and no state. */
int generation_new(struct generations *set, struct mmu_root *root, struct generation **out);
/* A generation whose every span is deferred: base's plus the private pages of the overlay, which is
 * to be set (a shell it then owns) before anybody is born from it. */
int generation_branch(struct generation *base, struct generation **out);
struct generation *generation_get(struct generation *g);
void generation_put(struct generation *g);  /* NULL is fine */
void generation_free(struct generation *g); /* worker, after the last put */

/* 0 once the span's table is the truth (or has been TAKEN); runs (may be NULL) receives where its
 * pages are then. Otherwise -errno, and the span stays deferred. */
int generation_resolve(struct generation *g, span_t span, struct span_runs *runs);
/* In the middle of that: makes a DEFERRED span BUSY for the caller; false: somebody else has done
 * it meanwhile. */
bool generation_claim(struct generation *g, span_t span);
void generation_unclaim(struct generation *g, span_t span, uint8_t state);
/*
 * Locks the view of g's overlay. Before the fork that froze it is over a fault thread may still
 * fill it; nothing else changes it but the heir, which takes spans out of it.
 *
 * Order: a view's lock, a BUSY span of its source g, the lock of g's overlay, a BUSY span of g's
 * base, and so on: always from the younger generation to the older one.
 */
void generation_lock_overlay(struct view *overlay);
/* The span is BUSY and ours. Brings the root's table up to what base has. */
int generation_inherit(struct generation *g, span_t span);

/* Pages held more than once since g was frozen, but nobody has changed; at most. */
uint64_t generation_duplicates(struct generation *g);
/* The same of those in the view of a VM that was born from g, exactly. Compares memory. */
uint64_t generation_view_duplicates(struct view *view, struct generation *g);

#endif
