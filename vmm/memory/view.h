/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Views: the host mappings that VMs run on. A view shows the RAM of one VM, at one fixed host
 * address, in spans of 2 MiB. Calls name a byte of RAM by its *offset*: the guest-physical address
 * without the hole below 4 GiB.
 *
 * A span is ABSENT or PRESENT. userfaultfd catches the first touch of an ABSENT span, and the span
 * is filled from a generation (see fork/fault.c). A PRESENT span is mapped shared (the VM that
 * booted writes to pool frames) or privately (the kernel copies a page when the guest first writes
 * to it). A few spans may be PARTIAL, those that a new clone needs first: some blocks of pages have
 * been placed there, and userfaultfd still catches a touch of the others. Only view.c maps, moves
 * and unmaps guest memory.
 *
 * All views lie in one arena at a fixed distance, so that an address tells its view.
 */
#ifndef RAMET_VMM_MEMORY_VIEW_H
#define RAMET_VMM_MEMORY_VIEW_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/lock.h"
#include "vmm/base/units.h"

struct view_arena {
	uint8_t *base;
	uint64_t stride, len; /* of one view; len is the RAM in it, whole spans */
	unsigned slots;
	int uffd, pool_fd, pagemap_fd;
	bool moves_pieces;  /* mremap moves several mappings at once: Linux 6.17 */
	atomic_uint pieces; /* upper bound of the mappings in all views: neighbours may merge */
	unsigned each;	    /* mappings of the VM of a view besides those in the view */
	atomic_uint n_used; /* views that are not free */
	atomic_bool ended;  /* see view_arena_end() */
	struct lock lock;   /* guards used[] and view.in_use */
	struct view **used; /* [slots]; NULL: never used */
};

/* Mappings in all views, and mappings in all that belongs to the VMs of the views: well below the
 * default vm.max_map_count (65530). */
#define VIEW_PIECES_MAX 40000u
#define VIEW_TOTAL_MAX	60000u

enum view_span { VIEW_ABSENT, VIEW_PARTIAL, VIEW_PRESENT, VIEW_POISONED };

/* Flags of a span that is not ABSENT. */
enum {
	VIEW_SPLIT = 1,	 /* may consist of several mappings */
	VIEW_PLACED = 2, /* has pages that were placed, not mapped: the span cannot be moved */
	VIEW_COPIES = 4, /* some of its private pages may be the same as in its source */
};

/* Pages are placed in blocks, which are aligned to their size. In the end each block costs two
 * mappings. Smaller blocks are copied earlier, larger ones cost fewer faults (docs/fork.md). */
#define VIEW_BLOCK_PAGES 8u
#define VIEW_BLOCKS_MAX	 8u /* in all spans, until the view is blanked */

struct view;

enum touch { TOUCH_READ, TOUCH_WRITE };

/* Fills the absent spans of views. A generation has one. */
struct view_source {
	/* Makes an ABSENT or PARTIAL span PRESENT. If page is not -1, the caller needs only this
	 * page: then the span may be PARTIAL with this page, if filling all of it would take long.
	 * The caller holds the view's lock. 0 or -errno. */
	int (*fill)(struct view *view, span_t span, int page, enum touch touch);
	/* fill() has failed, and the span has been poisoned: the VM that runs on the view must not
	 * execute one more instruction. The caller holds the view's lock. */
	void (*lost)(struct view *view);
};

struct view {
	struct view_arena *arena;
	void *owner; /* the shell that the view belongs to */
	unsigned slot;
	bool in_use;   /* guarded by the arena's lock */
	uint8_t *base; /* RAM offset 0 */
	/* Guards all below, and every change of the mapping. */
	struct lock lock;
	struct view_source *source; /* fills absent spans; NULL: a touch of these waits */
	atomic_bool poisoned;	    /* some span is POISONED; also read without the lock */
	bool closed;		    /* nothing is mapped, a touch fails */
	bool unserved;		    /* a thread waits for a span, and there was no source */
	unsigned pieces;	    /* mappings that were made: an upper bound */
	uint64_t ahead;		    /* see vmm/fork/populate.h; 0: nothing was mapped ahead */
	_Atomic uint8_t *span;	    /* enum view_span of each span; also read without the lock */
	uint8_t *flags;		    /* VIEW_SPLIT etc. of each span */
	struct {
		span_t span;
		unsigned block;
	} placed[VIEW_BLOCKS_MAX];
	unsigned n_placed;
	span_t written_next;  /* the span after the last one that was filled for a write */
	unsigned written_row; /* spans in a row that were filled for a write */
};

static inline uint64_t view_spans(const struct view_arena *arena)
{
	return spans_in(arena->len);
}

/* Where a byte of RAM is mapped. */
static inline uint8_t *view_at(const struct view *view, ram_off_t off)
{
	return view->base + off.v;
}

/* How mremap(2) moves a span. The old range stays mapped, but empty: the kernel could give a hole
 * to another thread's mmap(2), and the view would overwrite this mapping later. Needs Linux 5.7,
 * for files 5.13. */
#define VIEW_MOVE (MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP)

/* Reserves address space for views of `len` bytes of the pool's file, which stays the caller's. */
int view_arena_init(struct view_arena *arena, uint64_t len, int pool_fd);
/* The number of mappings that all views together may have now. */
static inline unsigned view_pieces_max(const struct view_arena *arena)
{
	uint64_t others = (uint64_t)arena->each * atomic_load(&arena->n_used);
	uint64_t left = others < VIEW_TOTAL_MAX ? VIEW_TOTAL_MAX - others : 0;

	return left < VIEW_PIECES_MAX ? (unsigned)left : VIEW_PIECES_MAX;
}

/* Unmaps all views at once: the kernel tells every KVM VM of the process about each change of a
 * mapping, so to unmap them one by one takes time in proportion to the square of their number. No
 * view is used any more; each must still be freed. Threads that wait for a page of a view are
 * woken. */
void view_arena_end(struct view_arena *arena);
void view_arena_destroy(struct view_arena *arena);

/* A view with every span ABSENT and no source. -ENOMEM: no slot or no memory. */
int view_new(struct view_arena *arena, struct view **out);
void view_free(struct view *view);

/* The state of a span now. To a caller without the lock, PRESENT and POISONED are final until the
 * view is closed; another state may change at once. */
static inline enum view_span view_state(const struct view *view, span_t span)
{
	return (enum view_span)atomic_load_explicit(&view->span[span.v], memory_order_acquire);
}

/* Maps n_pages pages from off on to pool frames, shared or private. Spans that lie completely in
 * this range become PRESENT. A span that consists of several pieces becomes PRESENT by
 * view_complete(), after the last one. The caller holds the lock, or no other thread knows the view
 * yet. */
int view_map(struct view *view, ram_off_t off, frame_t frame, uint64_t n_pages, bool shared);

/* Whether a page is there, in a span of any state. */
bool view_has_page(const struct view *view, span_t span, unsigned page);
/* Blocks placed in a PARTIAL span: bit i for block i. */
uint64_t view_placed(const struct view *view, span_t span);
/*
 * Places the block that a page is in, in an ABSENT or PARTIAL span, which is PARTIAL then. The
 * block's pages are copied from src + their offset in the span. -ENOSPC: there are too many blocks,
 * or the page is there. Other errors may leave the span poisoned.
 */
int view_place(struct view *view, span_t span, unsigned page, const uint8_t *src);
/* The same for any pages [off, off + len) of one span, from src on. The caller may map or copy more
 * of the span, and calls view_complete() after that. */
int view_copy(struct view *view, ram_off_t off, uint64_t len, const uint8_t *src);
/* Makes a span PRESENT of which every page has been mapped or copied. Not earlier: other threads
 * may move a PRESENT span, or touch any page of it. */
void view_complete(struct view *view, span_t span);

/* Records a write fault on a span. Returns true if it continues a sequential run. */
bool view_writes_on(struct view *view, span_t span);
/* Copies a part of a PRESENT span into private pages. That is 20 times cheaper than one write fault
 * a page in a guest. A page that cannot be copied now is copied when the guest writes to it. */
void view_copy_ahead(struct view *view, ram_off_t off, uint64_t len);

/* Drops all pages. A touch fails (EFAULT) from then on, also of threads that wait already. */
int view_close(struct view *view);
/* Makes all spans ABSENT, of a view that was closed or not. */
int view_blank(struct view *view);

/* Sets the source that fills absent spans from now on. */
void view_set_source(struct view *view, struct view_source *source);

/*
 * Gives up a span that could not be filled: a touch of a page that is not there fails (EFAULT to
 * KVM). Private pages stay, because the VM may be forked before it notices: its children must not
 * see these pages as they were before the VM wrote to them.
 */
void view_poison(struct view *view, span_t span);

/* Wakes the threads that wait for a page of [off, off + len): they touch it again. */
void view_wake(struct view *view, ram_off_t off, uint64_t len);

/* Finds the private pages of a span (bit i: page i). Returns their number or -errno. */
int view_private_pages(const struct view *view, span_t span, uint64_t bitmap[SPAN_PAGES / 64]);
/* Finds which of n spans have private pages: has[i] tells it of span first + i. Returns the number
 * of these pages or -errno. */
int view_private_spans(const struct view *view, span_t first, uint64_t n, uint8_t *has);

/* Moves a span with its private pages from one view to another one, where the span is ABSENT: one
 * page table changes hands. `from` keeps no page of it. The caller holds both locks. */
int view_take(struct view *to, struct view *from, span_t span);
/* Whether a span is PRESENT and this kernel can move it. The caller holds the lock. */
bool view_can_take(const struct view *from, span_t span);

/* Counts the pages that are mapped now. Does not take the lock: readers would starve behind the
 * fault threads. The result may be slightly stale. Takes time in proportion to the PRESENT spans.
 */
struct view_count {
	uint64_t private_pages, shared_pages;
};
int view_count(struct view *view, struct view_count *count);

/* Finds the view that contains a host address, and the RAM offset there. NULL: there is none. */
struct view *view_find(struct view_arena *arena, uint64_t addr, ram_off_t *off);

#endif
