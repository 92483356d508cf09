/* SPDX-License-Identifier: Apache-2.0 */
/* The contents of an address space: finding runs of frames, sharing and storing spans. */
#ifndef RAMET_VMM_MEMORY_SPAN_H
#define RAMET_VMM_MEMORY_SPAN_H

#include "vmm/memory/memory.h"

/* n_pages pages of RAM from off on are the frames from `frame` on. */
struct frame_run {
	ram_off_t off;
	frame_t frame;
	uint64_t n_pages;
};

static inline ram_off_t run_end(const struct frame_run *run)
{
	return off_add(run->off, run->n_pages * PAGE_SIZE);
}

/* Finds the runs of [off, end) in order, at most max of them. A run goes no further than end.
 * Returns their number, and in *next the offset behind the last one. Takes the lock once. */
unsigned memory_runs(struct memory *m, struct mmu_root *root, ram_off_t off, ram_off_t end,
	struct frame_run *run, unsigned max, ram_off_t *next);

/* All of one span, as runs in order. */
struct span_runs {
	unsigned n;
	struct frame_run run[SPAN_PAGES];
};

/* Finds the runs of a span. Takes the lock once. */
void memory_span_runs(struct memory *m, struct mmu_root *root, span_t span, struct span_runs *runs);
/* Makes root's span what base's span is, by sharing its PTE table; if base is NULL, the span stays
 * as it is. runs (may be NULL) receives the span's runs. Takes the lock once. */
int memory_share_span(struct memory *m, struct mmu_root *root, struct mmu_root *base, span_t span,
	struct span_runs *runs);

/* Makes a span of base's span and some other pages. */
struct span_store {
	struct mmu_root *root; /* whose span to make */
	struct mmu_root *base; /* whose span to share; NULL: root's own */
	span_t span;
	const uint64_t *bitmap; /* the pages that differ (bit i: page i) */
	const uint8_t *src;	/* page i can be read at src + i * 4096 */
	/* In: the pages that do not differ can be read at src, too. Out: they were copied as well,
	 * because the span would have come into too many pieces: root keeps none of the span's
	 * old frames. */
	bool moved_all;
	struct span_runs *runs; /* receives the span's runs; may be NULL */
};

/* Writes the pages that differ to new frames, and publishes a table that names these. Takes the
 * lock twice: to allocate the frames, and, after the pages have been written, for all the rest. 0
 * or -errno: then no frame is lost, and the span may be what base's is. */
int memory_store_span(struct memory *m, struct span_store *store);

#endif
