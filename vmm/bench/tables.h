/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Measurements of the table library alone: real tables, frames that are only counted. Each function
 * appends objects {bench: ...} to a JSON array, which is what all output is made from.
 */
#ifndef RAMET_VMM_BENCH_TABLES_H
#define RAMET_VMM_BENCH_TABLES_H

#include <jansson.h>
#include <stdint.h>

#include "include/ramet/mmu.h"

#define BENCH_CPUS 4u

/* Where tables and frames come from. */
struct bench_arena {
	struct mmu mmu;
	struct mmu_cpu cpu[BENCH_CPUS];
	uint64_t n_frames, max_tables;
	_Atomic uint64_t (*slots)[MMU_SLOTS];
	struct mmu_table *table;
	_Atomic uint32_t *next_free; /* a stack of tables, linked by index + 1 */
	_Atomic uint64_t free;	     /* its top; the upper half counts, against ABA */
	_Atomic uint32_t top;	     /* tables from here on were never used */
	_Atomic uint32_t *refs;
	_Atomic uint64_t spare; /* frames from here on are for copies */
	uint8_t *memory;	/* what pages are copied from and to; they share it */
};

/* For guests of so many bytes; threads: mmu_concurrent() with that scheme, or NULL. Ends the
 * program when out of memory. */
void bench_arena_start(struct bench_arena *a, uint64_t bytes, const struct mmu_scheme *concurrent);
void bench_arena_end(struct bench_arena *a);
/* Maps [0, bytes) with 4 KiB leaves, to frames that are not in a row. */
void bench_arena_map(struct bench_arena *a, struct mmu_root *root, uint64_t bytes);
/* Has memory ready for the tables and frames of so many bytes: new memory costs more than tables
 * do. */
void bench_arena_warm(struct bench_arena *a, uint64_t bytes);
/* Which of the arena's CPUs this thread is. */
extern _Thread_local unsigned bench_cpu;

/* Forks of mapped[] bytes at each level: time, and bytes of tables of parent and child. */
void bench_fork(json_t *out, const uint64_t *mapped, unsigned n, unsigned reps);
/* The first write to a span, to another page in it, and after the other side is gone. */
void bench_first_write(json_t *out, unsigned reps);
/* Translations through tables that are shared, and that are not. */
void bench_read(json_t *out);
/* Visits under each scheme, by one thread and by four. */
void bench_walks(json_t *out);
/* Maps page by page, discards page by page: what is left under each scheme, and how fast. */
void bench_reclaim(json_t *out, uint64_t mapped);

/* Prints tables on stdout. */
void bench_tables_print(const json_t *results);
/* 0 or EXIT_TROUBLE after saying why. */
int bench_tables_csv(const json_t *results, const char *file);
int bench_tables_plot(const json_t *results, const char *file);

#endif
