/* SPDX-License-Identifier: Apache-2.0 */
/* ramet bench tables: the table library alone, without KVM. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/bench/bench.h"
#include "vmm/bench/tables.h"
#include "vmm/cli/command.h"
#include "vmm/bench/benches.h"
#include "vmm/cli/size.h"

#define GIB	  (1ull << 30)
#define MAX_SIZES 16

struct options {
	uint64_t mapped[MAX_SIZES], reclaim;
	unsigned n_mapped, reps;
	const char *only, *json, *csv, *plot;
};

static const char *const names[] = { "fork", "first_write", "read", "walks", "reclaim" };
#define BENCHES (sizeof(names) / sizeof(names[0]))

static void run(json_t *out, const char *name, const struct options *o)
{
	if (!strcmp(name, "fork"))
		bench_fork(out, o->mapped, o->n_mapped, o->reps);
	else if (!strcmp(name, "first_write"))
		bench_first_write(out, 100 * o->reps);
	else if (!strcmp(name, "read"))
		bench_read(out);
	else if (!strcmp(name, "walks"))
		bench_walks(out);
	else
		bench_reclaim(out, o->reclaim);
}

static bool known(const char *name)
{
	for (unsigned i = 0; i < BENCHES; i++)
		if (!strcmp(names[i], name))
			return true;
	return false;
}

enum { OPT_CSV = 256, OPT_PLOT, OPT_RECLAIM, OPT_ONLY };

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct options *o = state->input;

	switch (key) {
	case 'm':
		if (size_list_parse(arg, o->mapped, MAX_SIZES, &o->n_mapped))
			argp_error(state, "--mapped: '%s' is not a list of at most %d sizes", arg,
				MAX_SIZES);
		for (unsigned i = 0; i < o->n_mapped; i++)
			if (o->mapped[i] < MMU_SPAN_SIZE || o->mapped[i] % MMU_SPAN_SIZE ||
				o->mapped[i] > 256 * GIB)
				argp_error(
					state, "--mapped: sizes are multiples of 2M, up to 256G");
		return 0;
	case OPT_RECLAIM:
		o->reclaim = opt_size(state, "--reclaim", arg, MMU_SPAN_SIZE, 256 * GIB) &
			     ~(MMU_SPAN_SIZE - 1);
		return 0;
	case 'r':
		o->reps = (unsigned)opt_number(state, "--reps", arg, 1, 10000);
		return 0;
	case OPT_ONLY:
		if (!known(arg))
			argp_error(state,
				"--only: '%s' is not one of fork, first_write, read, walks, "
				"reclaim",
				arg);
		o->only = arg;
		return 0;
	case 'j':
		o->json = arg ? arg : "-";
		return 0;
	case OPT_CSV:
		o->csv = arg ? arg : "-";
		return 0;
	case OPT_PLOT:
		o->plot = arg;
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

static int write_json(const json_t *results, const char *file)
{
	FILE *f = output_open(file);

	if (!f)
		return EXIT_TROUBLE;
	json_dumpf(results, f, JSON_INDENT(2) | JSON_REAL_PRECISION(6));
	fputc('\n', f);
	return output_close(f, file);
}

static int report(const json_t *results, const struct options *o)
{
	bool quiet = (o->json && !strcmp(o->json, "-")) || (o->csv && !strcmp(o->csv, "-"));
	int ret = EXIT_OK;

	if (!quiet)
		bench_tables_print(results);
	if (o->json)
		ret |= write_json(results, o->json);
	if (o->csv)
		ret |= bench_tables_csv(results, o->csv);
	if (o->plot)
		ret |= bench_tables_plot(results, o->plot);
	return ret;
}

static const struct argp_option options[] = {
	{ "mapped", 'm', "LIST", 0, "Mapped sizes to fork (512M,1G,2G,4G,8G,16G,32G,50G,64G)", 0 },
	{ "reclaim", OPT_RECLAIM, "SIZE", 0, "Size to map and discard under each scheme (50G)", 0 },
	{ "reps", 'r', "N", 0, "Copies of each size; other forks are done 4 N times (10)", 0 },
	{ "only", OPT_ONLY, "BENCH", 0, "One of fork, first_write, read, walks, reclaim", 0 },
	{ "json", 'j', "FILE", OPTION_ARG_OPTIONAL,
		"Write the results as JSON; without FILE to stdout", 1 },
	{ "csv", OPT_CSV, "FILE", OPTION_ARG_OPTIONAL,
		"Write the results as CSV; without FILE to stdout", 1 },
	{ "plot", OPT_PLOT, "FILE", 0, "Draw fork times and reclaimed tables as SVG, with gnuplot",
		1 },
	{ 0 },
};

int cmd_bench_tables(int argc, char **argv)
{
	static const struct argp argp = {
		options,
		parse,
		NULL,
		"Measures the table library alone, on synthetic frames: forks at each level of "
		"sharing, first writes after them, reads through shared tables, walks and reclaim "
		"under each reference scheme.\v"
		"Example:\n  ramet bench tables --mapped 1G,50G --only fork --json",
		NULL,
		NULL,
		NULL,
	};
	struct options o = {
		.mapped = { GIB / 2, GIB, 2 * GIB, 4 * GIB, 8 * GIB, 16 * GIB, 32 * GIB, 50 * GIB,
			64 * GIB },
		.n_mapped = 9,
		.reclaim = 50 * GIB,
		.reps = 10,
	};
	json_t *results = json_array();
	struct progress p;
	int ret;

	command_parse(&argp, argc, argv, &o);
	progress_start(&p, BENCHES);
	for (unsigned i = 0; i < BENCHES; i++) {
		if (o.only && strcmp(names[i], o.only))
			continue;
		progress_step(&p, names[i]);
		run(results, names[i], &o);
	}
	progress_end(&p);
	ret = report(results, &o);
	json_decref(results);
	return ret;
}
