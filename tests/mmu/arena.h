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
	uint64_t next_frame; /* no frame is used twice */
	unsigned allocs;
	unsigned cpu;
};

void arena_start(struct arena *a, const struct mmu_format *format);
/* Fails the test if a table or frame has not been freed. */
void arena_end(struct arena *a);
/* Returns n frames with one reference each, aligned to `align`. */
uint64_t arena_frames(struct arena *a, uint64_t n, uint64_t align);
/* Checks that mmu_check() finds no error, and that all frames have the right references. */
void arena_check(struct arena *a, struct mmu_root *const *root, unsigned n);

#endif
