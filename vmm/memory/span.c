// SPDX-License-Identifier: Apache-2.0
#include "vmm/memory/span.h"

#include <errno.h>

#include "vmm/base/io.h"

/* A span with more private pages than this is copied as a whole: its pieces would cost every view
 * that maps them more than the copy. */
#define PIECES_WORTH 128

static void lock(struct memory *m)
{
	lock_take(&m->lock);
}

static void unlock(struct memory *m)
{
	lock_release(&m->lock);
}

/* ---- runs ---- */

/* memory_runs() for a caller that holds the lock. */
static unsigned find_runs(struct memory *m, struct mmu_root *root, ram_off_t off, ram_off_t end,
	struct frame_run *run, unsigned max, ram_off_t *next)
{
	unsigned n = 0;

	while (off.v < end.v && n < max) {
		uint64_t low = m->ram->r[0].len;
		/* Offsets and guest-physical addresses run in parallel up to the hole. */
		uint64_t stop = off.v < low && end.v > low ? low : end.v;
		gpa_t at = ram_gpa(m->ram, off);
		struct mmu_run found;

		if (!mmu_next_run(&m->mmu, root, at, gpa(at.v + (stop - off.v)), &found))
			break;
		run[n] = (struct frame_run){ off, { found.frame }, found.n_pages };
		off = run_end(&run[n++]);
	}
	*next = off;
	return n;
}

unsigned memory_runs(struct memory *m, struct mmu_root *root, ram_off_t off, ram_off_t end,
	struct frame_run *run, unsigned max, ram_off_t *next)
{
	unsigned n;

	lock(m);
	n = find_runs(m, root, off, end, run, max, next);
	unlock(m);
	return n;
}

static void find_span_runs(
	struct memory *m, struct mmu_root *root, span_t span, struct span_runs *runs)
{
	ram_off_t off = span_off(span), next;

	runs->n = find_runs(m, root, off, off_add(off, SPAN_SIZE), runs->run, SPAN_PAGES, &next);
}

static gpa_t span_gpa(const struct memory *m, span_t span)
{
	return ram_gpa(m->ram, span_off(span));
}

int memory_share_span(struct memory *m, struct mmu_root *root, struct mmu_root *base, span_t span,
	struct span_runs *runs)
{
	int r = 0;

	if (!base && !runs)
		return 0;
	lock(m);
	if (base)
		r = mmu_share_span(&m->mmu, root, base, span_gpa(m, span));
	if (!r && runs)
		find_span_runs(m, root, span, runs);
	unlock(m);
	return r;
}

void memory_span_runs(struct memory *m, struct mmu_root *root, span_t span, struct span_runs *runs)
{
	memory_share_span(m, root, NULL, span, runs);
}

/* ---- storing a span ---- */

static bool bit(const uint64_t bitmap[8], unsigned i)
{
	return bitmap[i / 64] >> (i % 64) & 1;
}

static int write_frames(struct memory *m, frame_t frame, const uint8_t *src, size_t len)
{
	int r = io_pwrite(m->fd, frame_pos(frame), src, len);

	return r == -EFAULT ? -ENOMEM : r; /* no memory for a page of src */
}

/* Writes the pages that bitmap names to frames from `first` on, neighbours with one call. frame[i]
 * receives the frame of page i. */
static int write_pages(struct memory *m, frame_t first, const uint64_t bitmap[8],
	const uint8_t *src, uint64_t frame[MMU_SLOTS])
{
	for (unsigned i = 0; i < MMU_SLOTS;) {
		unsigned n = 0;
		int r;

		for (; i + n < MMU_SLOTS && bit(bitmap, i + n); n++)
			frame[i + n] = first.v + n;
		if (n) {
			r = write_frames(m, first, src + i * PAGE_SIZE, n * PAGE_SIZE);
			if (r)
				return r;
		}
		first = frame_add(first, n);
		i += n ? n : 1;
	}
	return 0;
}

/* Charges n pages and allocates frames for them. */
static int take_frames(struct memory *m, uint64_t n, frame_t *first)
{
	int r;

	if (!memory_charge(m, n * PAGE_SIZE))
		return -ENOMEM;
	lock(m);
	r = pool_alloc(&m->pool, n, &first->v);
	unlock(m);
	if (r) { /* frames may be idle */
		memory_trim(m);
		lock(m);
		r = pool_alloc(&m->pool, n, &first->v);
		unlock(m);
	}
	if (r)
		memory_refund(m, n * PAGE_SIZE);
	return r;
}

int memory_store_span(struct memory *m, struct span_store *s)
{
	static const uint64_t every[8] = { ~0ull, ~0ull, ~0ull, ~0ull, ~0ull, ~0ull, ~0ull, ~0ull };
	uint64_t frame[MMU_SLOTS], n = 0;
	frame_t first;
	const uint64_t *bitmap = s->bitmap;
	int r;

	for (unsigned i = 0; i < 8; i++)
		n += (unsigned)__builtin_popcountll(bitmap[i]);
	s->moved_all = s->moved_all && n > PIECES_WORTH && n < MMU_SLOTS;
	if (s->moved_all) {
		bitmap = every;
		n = MMU_SLOTS;
	}
	r = take_frames(m, n, &first);
	if (r)
		return r;
	/* Without the lock: this takes a while, and no other thread knows the frames yet. */
	r = write_pages(m, first, bitmap, s->src, frame);
	lock(m);
	if (!r && s->base)
		r = mmu_share_span(&m->mmu, s->root, s->base, span_gpa(m, s->span));
	if (!r)
		r = mmu_overlay_span(
			&m->mmu, s->root, span_gpa(m, s->span), bitmap, frame, memory_ram_attr);
	if (r)
		pool_put(&m->pool, first.v, n);
	else if (s->runs)
		find_span_runs(m, s->root, s->span, s->runs);
	unlock(m);
	if (r)
		memory_refund(m, n * PAGE_SIZE);
	return r;
}
