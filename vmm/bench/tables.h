/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Measurements of the table library alone: the tables are real, the frames have only counts. Each
 * function appends objects {bench: ...} to a JSON array. All output is made from this array.
 */
#ifndef RAMET_VMM_BENCH_TABLES_H
#define RAMET_VMM_BENCH_TABLES_H

#include <jansson.h>
#include <stdint.h>

#include "include/ramet/mmu.h"

#define BENCH_CPUS 4u

/* The source of tables and frames. */
struct bench_arena {
	struct mmu mmu;
	struct mmu_cpu cpu[BENCH_CPUS];
	uint64_t n_frames, max_tables;
	_Atomic uint64_t (*slots)[MMU_SLOTS];
	struct mmu_table *table;
	_Atomic uint32_t *next_free; /* a stack of tables, linked by index + 1 */
	_Atomic uint64_t free;	     /* top of the stack; the upper half is a count against ABA */
	_Atomic uint32_t top;	     /* tables from here on were never used */
	_Atomic uint32_t *refs;
	_Atomic uint64_t spare; /* frames from here on are for copies */
	uint8_t *memory;	/* source and target of page copies, shared by all pages */
};

/* Prepares for guests of `bytes`. concurrent: the scheme for mmu_concurrent(), or NULL for
 * serialized calls. If memory runs out, the program ends. */
void bench_arena_start(struct bench_arena *a, uint64_t bytes, const struct mmu_scheme *concurrent);
void bench_arena_end(struct bench_arena *a);
/* Maps [0, bytes) with 4 KiB leaves, to frames that are not consecutive. */
void bench_arena_map(struct bench_arena *a, struct mmu_root *root, uint64_t bytes);
/* Touches the memory for the tables and frames of `bytes`: the kernel's cost of new memory would be
 * larger than that of the tables. */
void bench_arena_warm(struct bench_arena *a, uint64_t bytes);
/* The arena's CPU number of this thread. */
extern _Thread_local unsigned bench_cpu;

/* Forks of mapped[] bytes at each level: the time, and the table bytes of parent and child. */
void bench_fork(json_t *out, const uint64_t *mapped, unsigned n, unsigned reps);
/* The first write to a span, to another page in it, and by the last sharer. */
void bench_first_write(json_t *out, unsigned reps);
/* Translations through private and through shared tables. */
void bench_read(json_t *out);
/* Visits with each scheme, by one thread and by four. */
void bench_walks(json_t *out);
/* Maps and discards page by page, with each scheme: tables left at the end, and the speed. */
void bench_reclaim(json_t *out, uint64_t mapped);

/* Prints tables on stdout. */
void bench_tables_print(const json_t *results);
/* 0, or EXIT_TROUBLE: an error, which has been printed. */
int bench_tables_csv(const json_t *results, const char *file);
int bench_tables_plot(const json_t *results, const char *file);

#endif
