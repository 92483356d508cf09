/* SPDX-License-Identifier: Apache-2.0 */
/* What the benchmarks share: samples, progress, baselines, plots. */
#ifndef RAMET_VMM_BENCH_BENCH_H
#define RAMET_VMM_BENCH_BENCH_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

/* Samples of one quantity, in nanoseconds. Ends the program when out of memory. */
struct series {
	uint64_t *v;
	unsigned n, cap;
};

void series_add(struct series *s, uint64_t value);
/* The nearest-rank percentile, 1..100; 0 without samples. Sorts. */
uint64_t series_percentile(struct series *s, unsigned percent);
/* {"p50", "p99", "max"} in microseconds, or null without samples. */
json_t *series_json(struct series *s);
void series_free(struct series *s);

/* A line on stderr, when that is a terminal and things take longer than two seconds. */
struct progress {
	unsigned done, total;
	uint64_t start_ns;
	bool shown;
};

void progress_start(struct progress *p, unsigned total);
void progress_step(struct progress *p, const char *what);
void progress_end(struct progress *p);

/*
 * What cloning costs without ramet, over `bytes` of touched memory, in a process of its own that
 * holds nothing else: the time of a fork(2) call in the parent, with 4 KiB pages and with huge
 * ones, whose child exits at once; and of copying the memory to huge pages touched before.
 */
enum baseline_kind { BASELINE_FORK4K, BASELINE_FORKTHP, BASELINE_COPY, BASELINE_KINDS };

struct baseline {
	pid_t pid;
	int fd;
};

/* Starts it and waits until its memory is touched. -ENOMEM: the machine has not got that much. */
int baseline_start(struct baseline *b, uint64_t bytes);
/* One sample into *ns. */
int baseline_measure(struct baseline *b, enum baseline_kind kind, uint64_t *ns);
void baseline_stop(struct baseline *b);

/* Takes pages from the kernel and gives them back, so that what follows does not pay for memory
 * that this machine has never used. */
void warm_memory(uint64_t bytes);
/* Bytes that this process may still have. */
uint64_t memory_available(void);

/* Whether this machine is QEMU's emulator, as in scripts/nested: its times mean little. */
bool machine_emulated(void);

/* A gnuplot that writes an SVG file; NULL after saying why. */
FILE *plot_open(const char *file, unsigned width, unsigned height);
/* 0 or EXIT_TROUBLE after saying why. */
int plot_close(FILE *plot, const char *file);

/* FILE opened for writing, stdout for "-"; NULL after saying why. */
FILE *output_open(const char *file);
int output_close(FILE *f, const char *file);

#endif
