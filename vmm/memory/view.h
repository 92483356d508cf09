/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Views: the host mappings that VMs run on. A view shows the RAM of one VM, at one fixed host
 * address, in 2 MiB spans. RAM is addressed by *offset* here: guest-physical addresses with the
 * hole below 4 GiB taken out.
 *
 * A span is ABSENT (its first touch is caught by userfaultfd and filled from a generation, see
 * fault.c) or PRESENT: mapped shared (the VM that booted writes pool frames) or privately (the
 * kernel copies a page when the guest first writes it). A few spans, those that a newborn needs
 * first, may be PARTIAL: some blocks of pages have been placed there, the rest is still caught.
 * Only view.c maps, moves and unmaps guest memory.
 *
 * Views live in one arena with a fixed stride, so that an address names its view.
 */
#ifndef RAMET_VMM_MEMORY_VIEW_H
#define RAMET_VMM_MEMORY_VIEW_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/units.h"

struct view_arena {
	uint8_t *base;
	uint64_t stride, len; /* of one view; len is the RAM in it, whole spans */
	unsigned slots;
	int uffd, pool_fd, pagemap_fd;
	bool moves_pieces;    /* mremap moves several mappings at once: Linux 6.17 */
	atomic_uint pieces;   /* mappings in all views, at most: neighbours may have merged */
	pthread_mutex_t lock; /* guards used[] and view.in_use */
	struct view **used;   /* [slots]; NULL: never used */
};

enum view_span { VIEW_ABSENT, VIEW_PARTIAL, VIEW_PRESENT, VIEW_POISONED };

/* What else there is to know about a span that is not ABSENT. */
enum {
	VIEW_SPLIT = 1,	 /* consists of several mappings, perhaps */
	VIEW_PLACED = 2, /* has pages that were placed, not mapped: it cannot be moved */
	VIEW_COPIES = 4, /* some of its private pages may be copies of what its source has */
};

/* Blocks are what is placed, and aligned to their size. Each costs two mappings, in the end. */
#define VIEW_BLOCK_PAGES 16u
#define VIEW_BLOCKS_MAX	 8u /* in all spans, until the view is blanked */

struct view;

enum touch { TOUCH_READ, TOUCH_WRITE };

/* What fills the absent spans of views: a generation. */
struct view_source {
	/* Makes a span, ABSENT or PARTIAL, PRESENT: or, if `page` of it (>= 0) is all that is asked
	 * for and more would take long, PARTIAL with that page. The view's lock is held. 0 or
	 * -errno. */
	int (*fill)(struct view *view, span_t span, int page, enum touch touch);
	/* The span that fill() could not provide has been poisoned: whoever runs on the view must
	 * not run on. The view's lock is held. */
	void (*lost)(struct view *view);
};

struct view {
	struct view_arena *arena;
	void *owner; /* whose it is: a shell */
	unsigned slot;
	bool in_use;   /* guarded by the arena's lock */
	uint8_t *base; /* RAM offset 0 */
	/* Guards all below, and every change of the mapping. */
	pthread_mutex_t lock;
	struct view_source *source; /* fills absent spans; NULL: nobody does */
	atomic_bool poisoned;	    /* some span is; read without the lock, too */
	bool closed;		    /* nothing is mapped, nothing can be touched */
	bool unserved;		    /* somebody waits for a span that had no source to fill it */
	unsigned pieces;	    /* mappings made; bounds the VMA count */
	_Atomic uint8_t *span;	    /* enum view_span of each; read without the lock, too */
	uint8_t *flags;		    /* VIEW_* of each */
	struct {
		span_t span;
		unsigned block;
	} placed[VIEW_BLOCKS_MAX];
	unsigned n_placed;
	span_t written_next;  /* the span after the last one that was filled to be written to */
	unsigned written_row; /* how many in a row these were */
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

/* How mremap(2) moves a span. The range stays mapped where it was, empty: in a hole the kernel
 * could put what somebody else maps, which the view would then overwrite. Linux 5.7, for files
 * 5.13. */
#define VIEW_MOVE (MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP)

/* Reserves address space for views of `len` bytes over the pool's file. Owns none of the fds but
 * uffd. */
int view_arena_init(struct view_arena *arena, uint64_t len, int pool_fd);
void view_arena_destroy(struct view_arena *arena);

/* A view with every span ABSENT and no source. -ENOMEM: no slot or no memory. */
int view_new(struct view_arena *arena, struct view **out);
void view_free(struct view *view);

/* What a span is now. Without the lock, PRESENT and POISONED are final until the view is closed. */
static inline enum view_span view_state(const struct view *view, span_t span)
{
	return (enum view_span)atomic_load_explicit(&view->span[span.v], memory_order_acquire);
}

/* Maps pages [off, off + n) onto pool frames, shared or private. Spans that lie in it whole become
 * PRESENT; one that comes in several pieces does by view_complete(), after the last. The lock is
 * held, or nobody else knows the view yet. */
int view_map(struct view *view, ram_off_t off, frame_t frame, uint64_t n_pages, bool shared);

/* Whether the page is there, if it is absent anywhere in its span. */
bool view_has_page(const struct view *view, span_t span, unsigned page);
/* Blocks placed in a PARTIAL span: bit i for block i. */
uint32_t view_placed(const struct view *view, span_t span);
/*
 * Places the block that a page is in, as private copies of what is at src (readable for all of the
 * block), in a span that is ABSENT or PARTIAL: it is PARTIAL then. -ENOSPC: too many of them, or it
 * is there. Other errors may leave the span poisoned.
 */
int view_place(struct view *view, span_t span, unsigned page, const uint8_t *src);
/* The same for any pages [off, off + len) within a span. More of the span may be mapped or copied
 * after it, until view_complete(). */
int view_copy(struct view *view, ram_off_t off, uint64_t len, const uint8_t *src);
/* All of the span has been mapped or copied: it is PRESENT. Not before: others may take, or touch,
 * a PRESENT span as a whole. */
void view_complete(struct view *view, span_t span);

/* Notes that a span is filled because it is written to. True: so were those before it, one after
 * the other. */
bool view_writes_on(struct view *view, span_t span);
/* Copies all of a PRESENT span into pages of its own, 20 times cheaper than one by one in a guest.
 * What cannot be copied is so later. */
void view_copy_ahead(struct view *view, span_t span);

/* Drops everything: no page is held any more; a touch fails (EFAULT) and waiters are let go. */
int view_close(struct view *view);
/* All spans ABSENT again, closed or not. */
int view_blank(struct view *view);

/* Who fills absent spans from now on. */
void view_set_source(struct view *view, struct view_source *source);

/*
 * A span could not be filled: what it lacks can no longer be touched (EFAULT to KVM). What is
 * private in it stays, for a VM may be forked before it notices, and its children must not inherit
 * what it had before it wrote there.
 */
void view_poison(struct view *view, span_t span);

/* Lets those go on that wait for a touch of [off, off + len). */
void view_wake(struct view *view, ram_off_t off, uint64_t len);

/* Which pages of a span only this view has (bit i: page i). Returns their number or -errno. */
int view_private_pages(const struct view *view, span_t span, uint64_t bitmap[SPAN_PAGES / 64]);
/* Which of n spans from `first` on have any: has[i] for span first + i. Returns the number of such
 * pages or -errno. */
int view_private_spans(const struct view *view, span_t first, uint64_t n, uint8_t *has);

/* Moves a whole span, its private pages with it, to the same place in another view where it is
 * ABSENT: one page table changes hands. `from` is left without a page of its own there. Both locks
 * are held. */
int view_take(struct view *to, struct view *from, span_t span);
/* Whether it is PRESENT and this kernel can move it. The lock is held. */
bool view_can_take(const struct view *from, span_t span);

/* What is mapped now, or about so while it changes: the lock is not needed, for which who only
 * looks would wait in vain while a guest keeps the fault threads busy. Takes time in proportion to
 * the PRESENT spans. */
struct view_count {
	uint64_t private_pages, shared_pages;
};
int view_count(struct view *view, struct view_count *count);

/* The view that contains addr and the RAM offset there; NULL: none. */
struct view *view_find(struct view_arena *arena, uint64_t addr, ram_off_t *off);

#endif
