/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Generations: immutable VMs. A generation has a root (second-level tables), the state of the
 * machine, and the state of the devices. Any number of VMs may be born from it, at any time.
 *
 * Freezing a VM that has private pages makes a generation whose spans are *deferred*. The contents
 * of such a span are those of the VM's birth generation (`base`) and, above these, the private
 * pages of the view that the VM was running on (`overlay`). No VM writes to the overlay from then
 * on. A span is resolved when a thread needs it, or by the settler: the private pages are written
 * to frames, the span's table is published, and every VM that is born later finds the table.
 *
 *   from       to         meaning
 *   DEFERRED   BUSY       generation_claim(): the span belongs to the calling thread
 *   BUSY       DEFERRED   it could not be resolved, or only one block of it was placed
 *   BUSY       RESOLVED   its table has all of it
 *   BUSY       COPIED     the same, but in new frames only: none of those that the overlay maps
 *   BUSY       TAKEN      the heir has taken the overlay's pages back, and the table lacks them:
 *                         only the heir, the VM that was frozen, needed the span. The lock of the
 *                         heir's view is held
 *
 * The threads that claim spans are: a thread that fills a view born from g or from a generation
 * above it, and holds the view's lock; the settler; a thread that resets a VM or counts duplicates.
 * The thread that has claimed a span ends BUSY, by generation_unclaim(). The last three states are
 * final. No lock guards the state of a span, which is atomic: a thread that finds BUSY waits
 * (g->event), and looks again.
 *
 * A view maps only frames that the root of its source generation names. So the view's reference to
 * the generation keeps these frames alive.
 */
#ifndef RAMET_VMM_FORK_GENERATION_H
#define RAMET_VMM_FORK_GENERATION_H

#include <stdatomic.h>

#include "vmm/base/lock.h"
#include "vmm/kvm/shell-pool.h"
#include "vmm/memory/span.h"

struct device_set;
struct generation;

/* All generations of a family, and what they need of the family. */
struct generations {
	struct memory *memory;
	const struct ram_layout *ram;
	struct shell_pool *shells; /* receives the shells of overlays that are not needed */
	/* Called when nothing refers to g any more, from any thread, with any lock held. The
	 * settler sets this function, and calls generation_free() later. */
	void (*idle)(void *arg, struct generation *g);
	void *idle_arg;
	struct view_source source; /* of the views of VMs that are born from any of them */

	struct lock lock; /* guards all, n, ahead and ahead_written */
	struct generation *all;
	uint64_t n;
	struct frame_list *ahead; /* what the maker maps into shells; see vmm/fork/populate.h */
	bool ahead_written;	  /* a VM still writes to these frames */
	_Atomic uint64_t resolved, taken_back; /* spans since the family began */
};

void generations_init(struct generations *set, struct memory *memory, const struct ram_layout *ram,
	struct shell_pool *shells, const struct view_source *source);
void generations_destroy(struct generations *set); /* all have been freed */
uint64_t generations_count(struct generations *set);

enum { GEN_DEFERRED, GEN_BUSY, GEN_RESOLVED, GEN_COPIED, GEN_TAKEN };

struct generation {
	struct view_source source; /* of views; the first member, see generation_of() */
	struct generations *set;   /* the set that this generation is in */
	uint64_t id;
	/* References: from VMs whose birth or home this is, and generations whose base this is.
	 * After the last put the settler frees the generation. */
	atomic_uint refs;
	struct mmu_root *root;
	struct machine_state *state; /* NULL until frozen: the VM that booted still writes frames */
	struct device_set *devices;
	/* What the guest had told through the doorbell, and its number of births, when frozen. */
	uint32_t phase, counter;
	uint64_t births;
	/* Addresses that the vCPUs of a VM born from it need first: the root of their page tables,
	 * their code and their stack, which they write to. */
	struct {
		gpa_t gpa;
		bool written;
	} first[RAMET_CPUS_MAX * 3];
	unsigned n_first;

	atomic_bool settled; /* no span is deferred, base and overlay are gone */
	struct generation *base;
	struct shell *overlay;	   /* the frozen VM's old shell, which has the overlay's view */
	struct view *_Atomic heir; /* the view that may take spans back while this is its source */
	atomic_uint event;	   /* futex: counts spans that stop being BUSY */
	atomic_uint n_waiting;	   /* threads that wait for the event */
	_Atomic uint8_t *span;	   /* GEN_* of each span; NULL: no span was ever deferred */
	/* kept[s]: pages of span s that are held twice, in frames and in the overlay. n_kept: their
	 * sum. n_moved: pages of older generations that were copied with a span, an upper bound. */
	uint16_t *kept;
	atomic_uint n_kept, n_moved;
	atomic_uint n_taken;	    /* resolved spans that the heir has taken back */
	unsigned taken_seen, looks; /* the settler's, see generation_settle() */

	/* All of RAM as mappings, when no span is deferred. The first thread that needs the list
	 * makes it. */
	struct frame_list *_Atomic list;
	struct generation *next, *next_dead; /* in the queues of the settler */
	uint64_t settle_ns;		     /* do not settle before this time */
	struct generation *all;		     /* the next one in set->all */
};

static inline struct generation *generation_of(struct view_source *source)
{
	return (struct generation *)source;
}

/* Makes a generation with this root, which it takes over on success, one reference, and no state.
 */
int generation_new(struct generations *set, struct mmu_root *root, struct generation **out);
/* Makes a generation in which every span is deferred. The caller must set the overlay, a shell that
 * the generation then owns, before a VM is born from it. */
int generation_branch(struct generation *base, struct generation **out);
struct generation *generation_get(struct generation *g);
void generation_put(struct generation *g);  /* g may be NULL */
void generation_free(struct generation *g); /* only for the settler, after the last put */

/* Resolves a span, unless it has been resolved or TAKEN. runs (may be NULL) receives where its
 * pages are. 0, or -errno: then the span stays deferred. */
int generation_resolve(struct generation *g, span_t span, struct span_runs *runs);
/* Makes a DEFERRED span BUSY for the caller, who must call generation_unclaim() with the span's
 * next state. Waits while another thread has the span BUSY. False: the span is not DEFERRED any
 * more. */
bool generation_claim(struct generation *g, span_t span);
void generation_unclaim(struct generation *g, span_t span, uint8_t state);
/*
 * Locks the view of an overlay. Until the fork that froze the overlay is over, a fault thread may
 * still fill spans of it. After that only the heir changes it, and takes spans out.
 *
 * Order: a view's lock, a BUSY span of its source g, the lock of g's overlay, a BUSY span of g's
 * base, and so on: always from the younger generation to the older one.
 */
void generation_lock_overlay(const struct generation *g);
/* Makes g's span the same as its base's span. The caller has the span BUSY. */
int generation_inherit(struct generation *g, span_t span);

/* Counts pages that are held more than once since g was frozen, and have not been changed since: an
 * upper bound. */
uint64_t generation_duplicates(struct generation *g);
/* Counts such pages in the view of a VM that was born from g. Exact, since it compares memory. */
uint64_t generation_view_duplicates(struct view *view, struct generation *g);

#endif
