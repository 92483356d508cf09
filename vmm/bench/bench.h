/* SPDX-License-Identifier: Apache-2.0 */
/* Functions for all benchmarks: samples, progress, baselines, plots. */
#ifndef RAMET_VMM_BENCH_BENCH_H
#define RAMET_VMM_BENCH_BENCH_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

/* Samples of one quantity, in nanoseconds. If memory runs out, the program ends. */
struct series {
	uint64_t *v;
	unsigned n, cap;
};

void series_add(struct series *s, uint64_t value);
/* Returns the nearest-rank percentile, 1..100; 0 without samples. Sorts the samples. */
uint64_t series_percentile(struct series *s, unsigned percent);
/* {"p50", "p99", "max"} in microseconds, or null without samples. */
json_t *series_json(struct series *s);
void series_free(struct series *s);

/* Prints a progress line on stderr, if that is a terminal and the run takes more than 2 seconds. */
struct progress {
	unsigned done, total;
	uint64_t start_ns;
	bool shown;
};

void progress_start(struct progress *p, unsigned total);
void progress_step(struct progress *p, const char *what);
void progress_end(struct progress *p);

/*
 * The cost of cloning without ramet, for `bytes` of touched memory, in a separate process that has
 * no other memory: the time of a fork(2) call in the parent, with 4 KiB pages and with huge pages
 * (the child exits at once); and the time to copy the memory to huge pages that were touched
 * before.
 */
enum baseline_kind { BASELINE_FORK4K, BASELINE_FORKTHP, BASELINE_COPY, BASELINE_KINDS };

struct baseline {
	pid_t pid;
	int fd;
};

/* Starts the process and waits until it has touched its memory. -ENOMEM: too little memory. */
int baseline_start(struct baseline *b, uint64_t bytes);
/* Measures once; the result is *ns. */
int baseline_measure(struct baseline *b, enum baseline_kind kind, uint64_t *ns);
void baseline_stop(struct baseline *b);

/* Allocates and frees pages, so that later measurements do not include the cost of memory that this
 * machine has never used. */
void warm_memory(uint64_t bytes);
/* Bytes that this process can still allocate. */
uint64_t memory_available(void);

/* True if this machine is QEMU's emulator, as in scripts/nested: then times mean little. */
bool machine_emulated(void);

/* Starts a gnuplot that writes an SVG file. NULL: an error, which has been printed. */
FILE *plot_open(const char *file, unsigned width, unsigned height);
/* 0, or EXIT_TROUBLE: an error, which has been printed. */
int plot_close(FILE *plot, const char *file);

/* Opens `file` for writing; "-" is stdout. NULL: an error, which has been printed. */
FILE *output_open(const char *file);
int output_close(FILE *f, const char *file);
/* Writes an array of flat objects with the same keys as CSV, and drops it. A distribution (the key
 * ends with _us or _ms) has three columns. EXIT_OK, or EXIT_TROUBLE: an error, which has been
 * printed. */
int csv_write(json_t *rows, const char *file);
/* Writes a JSON value to a file, and drops the reference to the value. EXIT_OK or EXIT_TROUBLE. */
int json_write(json_t *value, const char *file);

#endif
