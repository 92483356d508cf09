/* SPDX-License-Identifier: Apache-2.0 */
/* What is in an address space: runs of frames, and spans that are shared and stored. */
#ifndef RAMET_VMM_MEMORY_SPAN_H
#define RAMET_VMM_MEMORY_SPAN_H

#include "vmm/memory/memory.h"

/* Pages [off, off + n) of RAM are frames [frame, frame + n). */
struct frame_run {
	ram_off_t off;
	frame_t frame;
	uint64_t n_pages;
};

static inline ram_off_t run_end(const struct frame_run *run)
{
	return off_add(run->off, run->n_pages * PAGE_SIZE);
}

/* The runs of [off, end), in order, at most max; a run goes no further than end. Returns their
 * number, and in *next where to go on (end when done). */
unsigned memory_runs(struct memory *m, struct mmu_root *root, ram_off_t off, ram_off_t end,
	struct frame_run *run, unsigned max, ram_off_t *next);

/* All of one span, as runs in order. */
struct span_runs {
	unsigned n;
	struct frame_run run[SPAN_PAGES];
};

/* Answers the runs of a span. Takes the lock once. */
void memory_span_runs(struct memory *m, struct mmu_root *root, span_t span, struct span_runs *runs);
/* root's span becomes what base's span is, by sharing its PTE table (base is NULL: it stays what it
 * is). runs (may be NULL) receives the result. Takes the lock once. */
int memory_share_span(struct memory *m, struct mmu_root *root, struct mmu_root *base, span_t span,
	struct span_runs *runs);

/* A span that is to be base's span but for some pages. */
struct span_store {
	struct mmu_root *root; /* whose span it is */
	struct mmu_root *base; /* what it has in common with; NULL: with what it is now */
	span_t span;
	const uint64_t *bitmap; /* the pages that differ */
	const uint8_t *src;	/* page p is to be read at src + p * 4096 */
	/* In: the other pages can be read at src, too, and may be copied. Out: they were, since the
	 * span had come into too many pieces: nothing that maps the old frames may rely on them. */
	bool moved_all;
	struct span_runs *runs; /* receives the result; may be NULL */
};

/* Puts these pages into frames of their own, and publishes the table that has them. Takes the lock
 * twice: for the frames, and, after the pages were written to these, for all the rest. */
int memory_store_span(struct memory *m, struct span_store *store);

#endif
