/* SPDX-License-Identifier: Apache-2.0 */
/* Tables and frames for tests with tables of the real size. */
#ifndef RAMET_TESTS_MMU_ARENA_H
#define RAMET_TESTS_MMU_ARENA_H

#include "include/ramet/mmu.h"

#define A_TABLES 8192u
#define A_FRAMES (1u << 21) /* 8 GiB */

struct arena {
	struct mmu mmu;
	_Atomic uint64_t (*slots)[MMU_SLOTS];
	struct mmu_table *table;
	uint32_t *free_table, n_free, n_tables;
	uint32_t *refs;
	uint64_t next_frame; /* frames are not used again */
	unsigned allocs;
	unsigned cpu;
};

void arena_start(struct arena *a, const struct mmu_format *format);
/* Fails the test unless every table and frame has been given back. */
void arena_end(struct arena *a);
/* n frames with a reference each, aligned to align. */
uint64_t arena_frames(struct arena *a, uint64_t n, uint64_t align);
/* mmu_check() finds nothing, and frames have the references they should. */
void arena_check(struct arena *a, struct mmu_root *const *root, unsigned n);

#endif
