/* SPDX-License-Identifier: Apache-2.0 */
/* ramet bench burst: one fork into many running clones, and their end. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "include/ramet/ramet.h"
#include "vmm/bench/benches.h"
#include "vmm/bench/burst.h"
#include "vmm/cli/command.h"

struct options {
	struct burst_options burst;
	bool load[BURST_LOADS];
	bool prepared, made;
	const char *json, *csv, *plot;
};

enum { OPT_GUESTS = 256, OPT_SHELLS, OPT_PROBES, OPT_CSV, OPT_PLOT };

static struct burst_result *combinations(const struct options *o)
{
	struct burst_result *list = NULL, **tail = &list;

	for (unsigned load = 0; load < BURST_LOADS; load++)
		for (unsigned made = 0; made < 2; made++) {
			if (!o->load[load] || !(made ? o->made : o->prepared))
				continue;
			*tail = calloc(1, sizeof(**tail));
			if (!*tail)
				exit(complain("out of memory"));
			(*tail)->load = (enum burst_load)load;
			(*tail)->prepared = !made;
			tail = &(*tail)->next;
		}
	return list;
}

/* The combinations take turns, so that a change of the machine's load affects all of them. */
static int measure_all(struct burst_result *list, const struct burst_options *o)
{
	struct progress p;
	unsigned n = 0;
	int ret = EXIT_OK;

	for (struct burst_result *r = list; r; r = r->next)
		n++;
	progress_start(&p, n * o->reps);
	for (unsigned rep = 0; rep < o->reps && !ret; rep++)
		for (struct burst_result *r = list; r && !ret; r = r->next) {
			progress_step(
				&p, r->load == BURST_BUSY ? "busy guests" : "sleeping guests");
			ret = burst_measure(r, o);
		}
	progress_end(&p);
	return ret;
}

/* Its families are in a runtime directory of their own, so that no family of the user is in the
 * way. */
static int measure_apart(struct burst_result *list, const struct burst_options *o)
{
	char dir[] = "/tmp/ramet-burst.XXXXXX";
	int ret;

	if (!mkdtemp(dir))
		return complain("cannot make %s: %s", dir, strerror(errno));
	setenv("RAMET_RUNTIME_DIR", dir, 1);
	ret = measure_all(list, o);
	rmdir(dir);
	return ret;
}

static int report(struct burst_result *list, const struct options *o)
{
	bool quiet = (o->json && !strcmp(o->json, "-")) || (o->csv && !strcmp(o->csv, "-"));
	int ret = EXIT_OK;

	if (!quiet)
		burst_print_table(list, &o->burst);
	if (o->json)
		ret |= json_write(burst_json(list, &o->burst), o->json);
	if (o->csv)
		ret |= burst_write_csv(list, &o->burst, o->csv);
	if (o->plot)
		ret |= burst_plot(list, &o->burst, o->plot);
	if (o->plot && !ret && !quiet)
		printf("plot: %s\n", o->plot);
	return ret;
}

/* One of two words chooses one of two cases; without the option both are measured. */
static void choose(struct argp_state *state, const char *what, const char *arg,
	const char *const word[2], bool *first, bool *second)
{
	*first = !strcmp(arg, word[0]);
	*second = !strcmp(arg, word[1]);
	if (!*first && !*second)
		argp_error(state, "%s: '%s' is neither %s nor %s", what, arg, word[0], word[1]);
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	static const char *const loads[] = { "busy", "sleeping" };
	static const char *const shells[] = { "prepared", "made" };
	struct options *o = state->input;

	switch (key) {
	case 'm':
		o->burst.memory =
			opt_size(state, "--memory", arg, RAMET_MEMORY_MIN, RAMET_MEMORY_MAX);
		if (o->burst.memory % (2u << 20))
			argp_error(state, "--memory: must be a multiple of 2M");
		return 0;
	case 'c':
		o->burst.cpus = (unsigned)opt_number(state, "--cpus", arg, 1, RAMET_CPUS_MAX);
		return 0;
	case 'n':
		o->burst.count = (unsigned)opt_number(state, "--count", arg, 1, RAMET_FORK_MAX);
		return 0;
	case 'r':
		o->burst.reps = (unsigned)opt_number(state, "--reps", arg, 1, 1000);
		return 0;
	case OPT_PROBES:
		o->burst.probes = (unsigned)opt_number(state, "--probes", arg, 0, RAMET_FORK_MAX);
		return 0;
	case OPT_GUESTS:
		choose(state, "--guests", arg, loads, &o->load[BURST_BUSY],
			&o->load[BURST_SLEEPING]);
		return 0;
	case OPT_SHELLS:
		choose(state, "--shells", arg, shells, &o->prepared, &o->made);
		return 0;
	case 'j':
		o->json = arg;
		return 0;
	case OPT_CSV:
		o->csv = arg;
		return 0;
	case OPT_PLOT:
		o->plot = arg;
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

int cmd_bench_burst(int argc, char **argv)
{
	static const struct argp_option options[] = {
		{ "count", 'n', "N", 0, "Clones of one fork (1000)", 0 },
		{ "memory", 'm', "SIZE", 0, "Guest memory (256M)", 0 },
		{ "cpus", 'c', "N", 0, "vCPUs of each VM (1)", 0 },
		{ "reps", 'r', "N", 0, "Bursts of each kind (3)", 0 },
		{ "guests", OPT_GUESTS, "KIND", 0,
			"busy: they never sleep; sleeping: they wake up once a second (both)", 0 },
		{ "shells", OPT_SHELLS, "KIND", 0,
			"prepared: one for each clone is ready before the fork; made: the fork "
			"makes them (both)",
			0 },
		{ "probes", OPT_PROBES, "N", 0, "Requests of each kind while all clones run (20)",
			0 },
		{ "json", 'j', "FILE", 0, "Write the results as JSON; - is stdout", 0 },
		{ "csv", OPT_CSV, "FILE", 0, "Write the results as CSV; - is stdout", 0 },
		{ "plot", OPT_PLOT, "FILE", 0, "Draw them as SVG with gnuplot", 0 },
		{ 0 },
	};
	static const struct argp argp = {
		options,
		parse,
		NULL,
		"Forks a running VM into many clones by 'ramet fork', waits until each has run, "
		"sends requests to the family while all of them run, and ends them by 'ramet "
		"stop --all'. For comparison, makes as many KVM VMs without ramet, and without "
		"running them.\v"
		"Examples:\n  ramet bench burst\n  ramet bench burst --count 100 --guests busy "
		"--plot burst.svg",
		NULL,
		NULL,
		NULL,
	};
	struct options o = {
		.burst = { .memory = 256u << 20,
			.count = 1000,
			.cpus = 1,
			.reps = 3,
			.probes = 20 },
		.load = { true, true },
		.prepared = true,
		.made = true,
	};
	struct burst_result *list;
	int ret;

	command_parse(&argp, argc, argv, &o);
	raise_fd_limit();
	list = combinations(&o);
	ret = measure_apart(list, &o.burst);
	if (!ret)
		ret = report(list, &o);
	burst_results_free(list);
	return ret;
}
