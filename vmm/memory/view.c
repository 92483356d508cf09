// SPDX-License-Identifier: Apache-2.0
#include "vmm/memory/view.h"

#include <errno.h>
#include <linux/userfaultfd.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "vmm/base/clock.h"
#include "vmm/base/priority.h"

/* PAGEMAP_SCAN of Linux 6.7, as in include/uapi/linux/fs.h: the headers of the oldest distribution
 * that we support lack it. */
struct scan_region {
	uint64_t start, end, categories;
};
struct scan_arg {
	uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
	uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};
#define SCAN_IOCTL   _IOWR('f', 16, struct scan_arg)
#define SCAN_FILE    (1u << 2)
#define SCAN_PRESENT (1u << 3)
#define SCAN_SWAPPED (1u << 4)
#define SCAN_REGIONS 256

/* After this many consecutive write faults, assume a sequential writer: copy the next span ahead.
 */
#define WRITTEN_ROW 2u

/* Views larger than EMPTY_AT_ONCE are emptied in steps of about EMPTY_BYTES, adjusted so that one
 * step takes about EMPTY_NS. */
#define EMPTY_AT_ONCE (64u << 20)
#define EMPTY_BYTES   (16u << 20)
#define EMPTY_NS      400000u

/* The caller sets the state last, when the span is as the state says: other threads read it without
 * the lock. */
static void set_state(struct view *view, span_t span, enum view_span state)
{
	atomic_store_explicit(&view->span[span.v], (uint8_t)state, memory_order_release);
}

int view_map(struct view *view, ram_off_t off, frame_t frame, uint64_t n_pages, bool shared)
{
	uint64_t len = n_pages * PAGE_SIZE;
	void *p = mmap(view_at(view, off), len, PROT_READ | PROT_WRITE,
		(shared ? MAP_SHARED : MAP_PRIVATE) | MAP_FIXED | MAP_NORESERVE,
		view->arena->pool_fd, (off_t)frame_pos(frame));

	if (p == MAP_FAILED)
		return -errno;
	view->pieces++;
	atomic_fetch_add(&view->arena->pieces, 1);
	for (span_t s = span_of(off); span_off(s).v < off.v + len; s.v++) {
		if (span_off(s).v < off.v || span_off(s).v + SPAN_SIZE > off.v + len) {
			view->flags[s.v] |= VIEW_SPLIT;
			continue;
		}
		view->flags[s.v] = 0;
		set_state(view, s, VIEW_PRESENT);
	}
	return 0;
}

void view_complete(struct view *view, span_t span)
{
	set_state(view, span, VIEW_PRESENT);
}

uint64_t view_placed(const struct view *view, span_t span)
{
	uint64_t blocks = 0;

	for (unsigned i = 0; i < view->n_placed; i++)
		if (view->placed[i].span.v == span.v)
			blocks |= 1ull << view->placed[i].block;
	return blocks;
}

bool view_has_page(const struct view *view, span_t span, unsigned page)
{
	enum view_span state = view_state(view, span);

	return state == VIEW_PRESENT ||
	       (state == VIEW_PARTIAL && view_placed(view, span) >> (page / VIEW_BLOCK_PAGES) & 1);
}

void view_poison(struct view *view, span_t span)
{
	uint8_t *base = view_at(view, span_off(span));
	uint64_t bitmap[SPAN_PAGES / 64];
	unsigned n;

	set_state(view, span, VIEW_POISONED);
	atomic_store(&view->poisoned, true);
	if (view_private_pages(view, span, bitmap) < 0)
		return;
	for (unsigned i = 0; i < SPAN_PAGES; i += n ? n : 1) {
		for (n = 0; i + n < SPAN_PAGES && !(bitmap[(i + n) / 64] >> ((i + n) % 64) & 1);)
			n++;
		if (n)
			mmap(base + i * PAGE_SIZE, n * PAGE_SIZE, PROT_NONE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
	}
}

static int copy_in(struct view *view, ram_off_t off, uint64_t len, const uint8_t *src)
{
	struct uffdio_copy copy = {
		.dst = (uintptr_t)view_at(view, off), .src = (uintptr_t)src, .len = len
	};

	/* EAGAIN: a change of the address space has interrupted the copy after some of the pages.
	 */
	while (ioctl(view->arena->uffd, UFFDIO_COPY, &copy) < 0) {
		if (errno != EAGAIN) {
			int e = -errno;

			/* The guest may have written to the pages that were copied: they must stay.
			 */
			if (copy.len < len)
				view_poison(view, span_of(off));
			return e;
		}
		if (copy.copy > 0) {
			copy.dst += (uint64_t)copy.copy;
			copy.src += (uint64_t)copy.copy;
			copy.len -= (uint64_t)copy.copy;
		}
		copy.copy = 0;
	}
	view->flags[span_of(off).v] |= VIEW_PLACED | VIEW_COPIES;
	return 0;
}

int view_place(struct view *view, span_t span, unsigned page, const uint8_t *src)
{
	unsigned block = page / VIEW_BLOCK_PAGES;
	uint64_t at = block * VIEW_BLOCK_PAGES * PAGE_SIZE;
	int r;

	if (view->n_placed == VIEW_BLOCKS_MAX || view_has_page(view, span, page))
		return -ENOSPC;
	r = copy_in(view, off_add(span_off(span), at), VIEW_BLOCK_PAGES * PAGE_SIZE, src + at);
	if (r)
		return r;
	view->placed[view->n_placed].span = span;
	view->placed[view->n_placed++].block = block;
	set_state(view, span, VIEW_PARTIAL);
	return 0;
}

int view_copy(struct view *view, ram_off_t off, uint64_t len, const uint8_t *src)
{
	return copy_in(view, off, len, src);
}

bool view_writes_on(struct view *view, span_t span)
{
	view->written_row = span.v == view->written_next.v ? view->written_row + 1 : 0;
	view->written_next = span_add(span, 1);
	return view->written_row >= WRITTEN_ROW;
}

void view_copy_ahead(struct view *view, ram_off_t off, uint64_t len)
{
	/* Even a call that fails may have copied some pages. */
	madvise(view_at(view, off), len, MADV_POPULATE_WRITE);
	view->flags[span_of(off).v] |= VIEW_COPIES;
}

static int remap_anonymous(struct view *view)
{
	void *p = mmap(view->base, view->arena->len, PROT_NONE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		return -errno;
	atomic_fetch_sub(&view->arena->pieces, view->pieces);
	view->pieces = 0;
	for (uint64_t i = 0; i < view_spans(view->arena); i++)
		set_state(view, span_nr(i), VIEW_ABSENT);
	memset(view->flags, 0, view_spans(view->arena));
	view->closed = true;
	view->ahead = 0;
	view->poisoned = false;
	view->n_placed = 0;
	view->written_next = span_nr(0);
	view->written_row = 0;
	return 0;
}

/* Drops the pages of a view in steps. To unmap a big view at once takes the lock of the process's
 * memory map for writing, for tens of milliseconds in which no other thread can touch new memory.
 * Very small steps would cost more: the kernel tells every KVM VM of the process about each one. */
static void empty(struct view *view)
{
	uint64_t len = view->arena->len, step = EMPTY_BYTES;

	for (uint64_t off = 0, n; len > EMPTY_AT_ONCE && off < len; off += n) {
		uint64_t start = now_ns(), took;

		n = len - off < step ? len - off : step;
		madvise(view->base + off, n, MADV_DONTNEED);
		took = now_ns() - start;
		hurry_rest();
		if (took > EMPTY_NS && step > SPAN_SIZE)
			step /= 2;
		else if (took < EMPTY_NS / 4 && (step < EMPTY_AT_ONCE || step < len / 16))
			step *= 2;
	}
}

int view_close(struct view *view)
{
	int r;

	lock_take(&view->lock);
	view->source = NULL;
	lock_release(&view->lock);
	empty(view);
	lock_take(&view->lock);
	r = remap_anonymous(view);
	lock_release(&view->lock);
	/* Threads that waited for a page of the old mapping try again, and get EFAULT. */
	view_wake(view, ram_off(0), view->arena->len);
	return r;
}

int view_blank(struct view *view)
{
	struct uffdio_register reg = {
		.range = { (uintptr_t)view->base, view->arena->len },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	int r = 0;

	lock_take(&view->lock);
	/* The range must not be touched before it is registered: KVM may still fetch a page for the
	 * shell's former VM. The kernel would put a zero page there, and the next VM would find
	 * this page instead of its own. */
	if (!view->closed)
		r = remap_anonymous(view);
	view->closed = false;
	/* The kernel must never put a huge page of zeros where a span has not been filled. */
	if (!r && madvise(view->base, view->arena->len, MADV_NOHUGEPAGE) < 0 && errno != EINVAL)
		r = -errno;
	if (!r && (ioctl(view->arena->uffd, UFFDIO_REGISTER, &reg) < 0 ||
			  mprotect(view->base, view->arena->len, PROT_READ | PROT_WRITE) < 0))
		r = -errno;
	lock_release(&view->lock);
	return r;
}

void view_set_source(struct view *view, struct view_source *source)
{
	bool again;

	lock_take(&view->lock);
	again = view->unserved && source;
	view->source = source;
	view->unserved &= !again;
	lock_release(&view->lock);
	if (again)
		view_wake(view, ram_off(0), view->arena->len);
}

void view_wake(struct view *view, ram_off_t off, uint64_t len)
{
	struct uffdio_range range = { (uintptr_t)view_at(view, off), len };

	ioctl(view->arena->uffd, UFFDIO_WAKE, &range);
}

/* Finds the next regions of [*off, end) that hold pages: private pages only (anonymous copies), or
 * all pages. *off moves to where the kernel stopped. Returns the number of regions or -errno. */
static int scan(const struct view *view, uint64_t *off, uint64_t end, bool private_only,
	struct scan_region region[SCAN_REGIONS])
{
	struct scan_arg arg = {
		.size = sizeof(arg),
		.start = (uintptr_t)view->base + *off,
		.end = (uintptr_t)view->base + end,
		.vec = (uintptr_t)region,
		.vec_len = SCAN_REGIONS,
		.category_inverted = private_only ? SCAN_FILE : 0,
		.category_mask = private_only ? SCAN_FILE : 0,
		.category_anyof_mask = SCAN_PRESENT | SCAN_SWAPPED,
		.return_mask = SCAN_FILE,
	};
	int n = ioctl(view->arena->pagemap_fd, SCAN_IOCTL, &arg);

	if (n < 0)
		return -errno;
	*off = arg.walk_end - (uintptr_t)view->base;
	for (int i = 0; i < n; i++) {
		region[i].start -= (uintptr_t)view->base;
		region[i].end -= (uintptr_t)view->base;
	}
	return n;
}

int view_private_pages(const struct view *view, span_t span, uint64_t bitmap[SPAN_PAGES / 64])
{
	struct scan_region region[SCAN_REGIONS];
	uint64_t off = span_off(span).v;
	int pages = 0;

	memset(bitmap, 0, SPAN_PAGES / 8);
	for (uint64_t at = off; at < off + SPAN_SIZE;) {
		int n = scan(view, &at, off + SPAN_SIZE, true, region);

		if (n < 0)
			return n;
		for (int i = 0; i < n; i++)
			for (uint64_t p = region[i].start; p < region[i].end;
				p += PAGE_SIZE, pages++)
				bitmap[(p - off) / PAGE_SIZE / 64] |=
					1ull << ((p - off) / PAGE_SIZE % 64);
	}
	return pages;
}

int view_private_spans(const struct view *view, span_t first, uint64_t n_spans, uint8_t *has)
{
	struct scan_region region[SCAN_REGIONS];
	uint64_t end = span_off(span_add(first, n_spans)).v;
	int pages = 0;

	memset(has, 0, n_spans);
	for (uint64_t at = span_off(first).v; at < end;) {
		int n = scan(view, &at, end, true, region);

		if (n < 0)
			return n;
		for (int i = 0; i < n; i++) {
			uint64_t last = span_of(ram_off(region[i].end - 1)).v;

			for (uint64_t s = span_of(ram_off(region[i].start)).v; s <= last; s++)
				has[s - first.v] = 1;
			pages += (int)((region[i].end - region[i].start) / PAGE_SIZE);
		}
	}
	return pages;
}

bool view_can_take(const struct view *from, span_t span)
{
	return view_state(from, span) == VIEW_PRESENT && !(from->flags[span.v] & VIEW_PLACED) &&
	       (!(from->flags[span.v] & VIEW_SPLIT) || from->arena->moves_pieces);
}

/* A move that failed has left the span unmapped. Maps the span again, so that a touch waits as
 * before; if that fails, poisons it. */
static void reopen(struct view *view, span_t span)
{
	uint8_t *base = view_at(view, span_off(span));
	struct uffdio_register reg = {
		.range = { (uintptr_t)base, SPAN_SIZE },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};

	if (mmap(base, SPAN_SIZE, PROT_NONE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) == MAP_FAILED ||
		ioctl(view->arena->uffd, UFFDIO_REGISTER, &reg) < 0 ||
		mprotect(base, SPAN_SIZE, PROT_READ | PROT_WRITE) < 0)
		view_poison(view, span);
}

int view_take(struct view *to, struct view *from, span_t span)
{
	ram_off_t off = span_off(span);

	if (mremap(view_at(from, off), SPAN_SIZE, SPAN_SIZE, VIEW_MOVE, view_at(to, off)) ==
		MAP_FAILED) {
		int e = -errno;

		reopen(to, span);
		return e;
	}
	to->flags[span.v] = from->flags[span.v];
	set_state(to, span, VIEW_PRESENT);
	to->pieces++;
	atomic_fetch_add(&to->arena->pieces, 1);
	set_state(from, span, VIEW_ABSENT);
	return 0;
}

int view_count(struct view *view, struct view_count *count)
{
	struct scan_region region[SCAN_REGIONS];
	struct view_count c = { 0 };

	for (uint64_t at = 0; at < view->arena->len;) {
		int n = scan(view, &at, view->arena->len, false, region);

		if (n < 0)
			return n;
		for (int i = 0; i < n; i++) {
			uint64_t pages = (region[i].end - region[i].start) / PAGE_SIZE;

			if (region[i].categories & SCAN_FILE)
				c.shared_pages += pages;
			else
				c.private_pages += pages;
		}
	}
	*count = c;
	return 0;
}
