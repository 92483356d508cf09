/* SPDX-License-Identifier: Apache-2.0 */
/* ramet bench reset: the cost of a reset, for different numbers of dirty pages. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "include/ramet/abi.h"
#include "include/ramet/ramet.h"
#include "vmm/base/clock.h"
#include "vmm/bench/bench.h"
#include "vmm/cli/command.h"
#include "vmm/bench/benches.h"
#include "vmm/cli/table.h"

#define PAGE	4096u
#define BATCH	8u /* pages that the guest writes between heartbeats */
#define WAIT_MS 60000

static const unsigned dirty_pages[] = { 0, 10, 100, 1000 };
#define N_STEPS (sizeof(dirty_pages) / sizeof(dirty_pages[0]))

struct options {
	uint64_t memory;
	unsigned reps;
	const char *json;
};

struct result {
	struct series reset;
	uint64_t loop_ns; /* time for all cycles; a cycle: dirty the pages, then reset */
};

struct subject {
	struct ramet_family *family;
	struct ramet_vm *clone;
	unsigned pages;
};

static int failed(const char *what, int err, const struct ramet_err *e)
{
	return complain("%s: %s", what, e && e->msg[0] ? e->msg : strerror(-err));
}

static void subject_end(struct subject *s)
{
	ramet_vm_put(s->clone);
	ramet_family_destroy(s->family);
}

/* Makes a clone of a guest that writes to s->pages pages again and again. */
static int subject_start(struct subject *s, uint64_t memory)
{
	char args[64];
	struct ramet_config cfg = {
		.name = "bench", .memory = memory, .guest = "dirty", .args = args
	};
	struct ramet_err err = { "" };
	struct ramet_vm *booted;
	int ret;

	snprintf(args, sizeof(args), "dirty=%u rate=%s", s->pages * PAGE, s->pages ? "max" : "0");
	ret = ramet_launch(&cfg, &s->family, &booted, &err);
	if (ret)
		return failed("launching the guest", ret, &err);
	ret = ramet_wait(booted, RAMET_EV_PHASE, RAMET_PHASE_READY, WAIT_MS);
	if (!ret)
		ret = ramet_fork(booted, 1, 0, &s->clone, NULL, &err);
	ramet_stop(booted, NULL);
	ramet_vm_put(booted);
	if (!ret)
		return EXIT_OK;
	subject_end(s);
	return failed("forking the guest", ret, &err);
}

/* Waits until the clone has written all its pages since its last birth. */
static int let_it_dirty(struct subject *s)
{
	struct ramet_stat st;
	unsigned beats = (s->pages + BATCH - 1) / BATCH;

	if (!beats)
		return ramet_wait(s->clone, RAMET_EV_READY, 0, WAIT_MS);
	/* A batch that began before the birth may be under way. */
	ramet_vm_stat_quick(s->clone, &st);
	return ramet_wait(s->clone, RAMET_EV_HEARTBEATS, st.heartbeats + beats + 1, WAIT_MS);
}

static int measure(struct result *r, unsigned pages, const struct options *o)
{
	struct subject s = { .pages = pages };
	struct ramet_err err = { "" };
	uint64_t begin;
	int ret = subject_start(&s, o->memory);

	if (ret)
		return ret;
	begin = now_ns();
	for (unsigned i = 0; i < o->reps && !ret; i++) {
		uint64_t start;

		ret = let_it_dirty(&s);
		start = now_ns();
		if (!ret)
			ret = ramet_reset(s.clone, &err);
		series_add(&r->reset, now_ns() - start);
	}
	r->loop_ns = now_ns() - begin;
	subject_end(&s);
	return ret ? failed("resetting a clone", ret, &err) : EXIT_OK;
}

static double per_second(struct result *r)
{
	return (double)r->reset.n * 1e9 / (double)r->loop_ns;
}

static void print_table(struct result *results)
{
	static const struct table_column columns[] = {
		{ "DIRTY PAGES", TABLE_RIGHT },
		{ "RESET p50", TABLE_RIGHT },
		{ "p99", TABLE_RIGHT },
		{ "max", TABLE_RIGHT },
		{ "CYCLES/S", TABLE_RIGHT },
		{ 0 },
	};
	struct libscols_table *t = table_new(columns);

	for (unsigned i = 0; i < N_STEPS; i++) {
		struct libscols_line *line = table_line(t, NULL);

		table_set(line, 0, "%u", dirty_pages[i]);
		table_set_time(line, 1, series_percentile(&results[i].reset, 50));
		table_set_time(line, 2, series_percentile(&results[i].reset, 99));
		table_set_time(line, 3, series_percentile(&results[i].reset, 100));
		table_set(line, 4, "%.0f", per_second(&results[i]));
	}
	table_print(t);
	puts("RESET: the time of the call. In a cycle the guest dirties its pages and is reset.");
}

static int write_json(struct result *results, const char *file)
{
	json_t *all = json_array();

	for (unsigned i = 0; i < N_STEPS; i++)
		json_array_append_new(
			all, json_pack("{s:i, s:o, s:f}", "dirty_pages", (int)dirty_pages[i], "us",
				     series_json(&results[i].reset), "resets_per_s",
				     per_second(&results[i])));
	return json_write(all, file);
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct options *o = state->input;

	switch (key) {
	case 'm':
		o->memory = opt_size(state, "--memory", arg, RAMET_MEMORY_MIN, RAMET_MEMORY_MAX);
		return 0;
	case 'r':
		o->reps = (unsigned)opt_number(state, "--reps", arg, 1, 1000000);
		return 0;
	case 'j':
		o->json = arg ? arg : "-";
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

int cmd_bench_reset(int argc, char **argv)
{
	static const struct argp_option options[] = {
		{ "memory", 'm', "SIZE", 0, "Guest memory (64M)", 0 },
		{ "reps", 'r', "N", 0, "Resets for each number of dirty pages (500)", 0 },
		{ "json", 'j', "FILE", OPTION_ARG_OPTIONAL,
			"Write the results as JSON, to stdout unless a file is given (--json=FILE)",
			0 },
		{ 0 },
	};
	static const struct argp argp = {
		options,
		parse,
		NULL,
		"Measures how fast a clone is put back to the moment of its birth, after its guest "
		"has dirtied 0, 10, 100 and 1000 pages: the inner loop of a fuzzer.\v"
		"Example:\n  ramet bench reset --json | jq '.[].resets_per_s'",
		NULL,
		NULL,
		NULL,
	};
	struct options o = { .memory = 64u << 20, .reps = 500 };
	struct result results[N_STEPS] = { 0 };
	struct progress p;
	int ret = EXIT_OK;

	command_parse(&argp, argc, argv, &o);
	raise_fd_limit();
	progress_start(&p, N_STEPS);
	for (unsigned i = 0; i < N_STEPS && !ret; i++) {
		progress_step(&p, "resets");
		ret = measure(&results[i], dirty_pages[i], &o);
	}
	progress_end(&p);
	if (!ret && (!o.json || strcmp(o.json, "-")))
		print_table(results);
	if (!ret && o.json)
		ret = write_json(results, o.json);
	for (unsigned i = 0; i < N_STEPS; i++)
		series_free(&results[i].reset);
	return ret;
}
