/* SPDX-License-Identifier: Apache-2.0 */
/* ramet bench clone: the cost of a fork, compared with the cost without ramet. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "include/ramet/ramet.h"
#include "vmm/bench/clone.h"
#include "vmm/cli/command.h"
#include "vmm/bench/benches.h"
#include "vmm/cli/run-options.h"
#include "vmm/cli/size.h"

#define PAGE	      4096u
#define DIRTY_DEFAULT (16u << 20)

struct options {
	uint64_t memory[BENCH_LIST_MAX], dirty[BENCH_LIST_MAX];
	unsigned n_memory, n_dirty;
	unsigned cpus, clones, reps;
	bool mode[MODES];
	struct ramet_config guest; /* a kernel with its initrd, arguments and disks, if any */
	const char *json, *csv, *plot;
};

/* The possible combinations of the options, in order. */
static struct clone_result *combinations(const struct options *o)
{
	struct clone_result *list = NULL, **tail = &list;

	for (unsigned m = 0; m < o->n_memory; m++)
		for (unsigned d = 0; d < o->n_dirty; d++)
			for (unsigned mode = 0; mode < MODES; mode++) {
				bool all = o->dirty[d] == DIRTY_ALL;
				struct clone_result *r;

				if (!o->mode[mode] || (!all && o->dirty[d] > o->memory[m]))
					continue;
				r = calloc(1, sizeof(*r));
				if (!r)
					exit(complain("out of memory"));
				r->memory_index = m;
				r->dirty_index = d;
				r->memory = o->memory[m];
				/* The guest itself uses about the first 2 MiB. */
				r->dirty = all || o->dirty[d] > o->memory[m] - (4u << 20)
						   ? o->memory[m] - (4u << 20)
						   : o->dirty[d];
				r->mode = (enum clone_mode)mode;
				r->cpus = o->cpus;
				r->clones = o->clones;
				r->guest = o->guest.kernel ? &o->guest : NULL;
				*tail = r;
				tail = &r->next;
			}
	return list;
}

static int measure_all(struct clone_result *list, unsigned reps)
{
	struct progress p;
	unsigned n = 0;
	uint64_t most = 0;
	int ret = EXIT_OK;

	for (struct clone_result *r = list; r; r = r->next, n++)
		if (r->dirty > most)
			most = r->dirty;
	progress_start(&p, n);
	warm_memory(6 * most);
	for (struct clone_result *r = list; r && !ret; r = r->next) {
		char m[SIZE_TEXT], d[SIZE_TEXT], what[96];

		snprintf(what, sizeof(what), "%s guest, %s dirty, %s", size_format(r->memory, m),
			r->guest ? "a kernel's" : size_format(r->dirty, d),
			r->mode == MODE_LIVE ? "live" : "template");
		progress_step(&p, what);
		ret = clone_measure(r, reps);
	}
	progress_end(&p);
	return ret;
}

static int report(struct clone_result *list, const struct options *o)
{
	bool quiet = (o->json && !strcmp(o->json, "-")) || (o->csv && !strcmp(o->csv, "-"));
	int ret = EXIT_OK;

	if (!quiet)
		clone_print_table(list);
	if (o->json)
		ret |= json_write(clone_json(list), o->json);
	if (o->csv)
		ret |= clone_write_csv(list, o->csv);
	if (o->plot)
		ret |= clone_plot(list, o->plot);
	if (o->plot && !ret && !quiet)
		printf("plot: %s\n", o->plot);
	return ret;
}

static void parse_sizes(struct argp_state *state, const char *what, const char *arg, uint64_t *out,
	unsigned *n, uint64_t min, uint64_t max)
{
	int err = size_list_parse(arg, out, BENCH_LIST_MAX, n);

	if (err == -E2BIG)
		argp_error(state, "%s: at most %u sizes", what, BENCH_LIST_MAX);
	if (err)
		argp_error(
			state, "%s: '%s' is not a list of sizes; write it like 64M,1G", what, arg);
	for (unsigned i = 0; i < *n; i++)
		if (out[i] < min || out[i] > max || out[i] % PAGE)
			argp_error(state, "%s: %" PRIu64 " is out of range or no multiple of 4K",
				what, out[i]);
}

enum {
	OPT_DIRTY = 256,
	OPT_CLONES,
	OPT_MODE,
	OPT_CSV,
	OPT_PLOT,
	OPT_KERNEL,
	OPT_INITRD,
	OPT_CMDLINE,
	OPT_DISK
};

static void default_memory(struct options *o)
{
	if (!o->guest.kernel)
		o->memory[o->n_memory++] = 64u << 20; /* too small for any kernel */
	o->memory[o->n_memory++] = 256u << 20;
	o->memory[o->n_memory++] = 1u << 30;
}

/* Checks options that depend on each other. */
static void check_together(struct argp_state *state, struct options *o)
{
	if (!o->guest.kernel && (o->guest.initrd || o->guest.args || o->guest.n_disks))
		argp_error(state, "--initrd, --cmdline and --disk go with --kernel");
	if (o->guest.kernel && o->n_dirty)
		argp_error(state, "--dirty: what a kernel's guest dirties is up to it");
	if (!o->n_memory)
		default_memory(o);
	for (unsigned i = 0; i < o->n_memory; i++)
		if (o->memory[i] % (2u << 20))
			argp_error(state, "--memory: must be multiples of 2M");
	if (!o->n_dirty) {
		o->n_dirty = 1;
		o->dirty[0] = DIRTY_DEFAULT;
	}
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct options *o = state->input;

	switch (key) {
	case 'm':
		parse_sizes(state, "--memory", arg, o->memory, &o->n_memory, RAMET_MEMORY_MIN,
			RAMET_MEMORY_MAX);
		return 0;
	case OPT_DIRTY:
		o->n_dirty = 1;
		o->dirty[0] = DIRTY_ALL;
		if (strcmp(arg, "all"))
			parse_sizes(state, "--dirty", arg, o->dirty, &o->n_dirty, PAGE,
				RAMET_MEMORY_MAX);
		return 0;
	case OPT_KERNEL:
		o->guest.kernel = arg;
		return 0;
	case OPT_INITRD:
		o->guest.initrd = arg;
		return 0;
	case OPT_CMDLINE:
		o->guest.args = arg;
		return 0;
	case OPT_DISK:
		option_disk(state, &o->guest, arg);
		return 0;
	case ARGP_KEY_END:
		check_together(state, o);
		return 0;
	case 'c':
		o->cpus = (unsigned)opt_number(state, "--cpus", arg, 1, RAMET_CPUS_MAX);
		return 0;
	case OPT_CLONES:
		o->clones = (unsigned)opt_number(state, "--clones", arg, 1, RAMET_FORK_MAX);
		return 0;
	case 'r':
		o->reps = (unsigned)opt_number(state, "--reps", arg, 1, 100000);
		return 0;
	case OPT_MODE:
		if (strcmp(arg, "template") && strcmp(arg, "live") && strcmp(arg, "both"))
			argp_error(state, "--mode: '%s' is none of template, live, both", arg);
		o->mode[MODE_TEMPLATE] = strcmp(arg, "live");
		o->mode[MODE_LIVE] = strcmp(arg, "template");
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

static const struct argp_option options[] = {
	{ "memory", 'm', "LIST", 0, "Guest memory sizes (64M,256M,1G; with --kernel 256M,1G)", 0 },
	{ "dirty", OPT_DIRTY, "LIST", 0, "Amount of dirty memory: sizes, or 'all' (16M)", 0 },
	{ "mode", OPT_MODE, "MODE", 0,
		"template: fork a VM that has written almost nothing since its last fork; live: "
		"fork a "
		"clone that has dirtied the given amount since its last fork; both (the default)",
		0 },
	{ "cpus", 'c', "N", 0, "vCPUs of the guest (1)", 0 },
	{ "clones", OPT_CLONES, "N", 0, "Clones made by each fork (1)", 0 },
	{ "reps", 'r', "N", 0, "Forks measured for each combination (20)", 0 },
	{ NULL, 0, NULL, 0,
		"To use a kernel instead of the guest 'dirty' (DIRTY is then what it has touched):",
		2 },
	{ "kernel", OPT_KERNEL, "FILE", 0,
		"A Linux kernel. Its guest must write 1 to its doorbell when it is ready: devmem "
		"0xd000000c 32 1",
		2 },
	{ "initrd", OPT_INITRD, "FILE", 0, "Its initial RAM disk", 2 },
	{ "cmdline", OPT_CMDLINE, "STRING", 0, "Its command line", 2 },
	{ "disk", OPT_DISK, "FILE[,ro]", 0, "A raw disk image, see 'ramet run'", 2 },
	{ "json", 'j', "FILE", 0, "Write the results as JSON; - is stdout", 1 },
	{ "csv", OPT_CSV, "FILE", 0, "Write the medians as CSV; - is stdout", 1 },
	{ "plot", OPT_PLOT, "FILE", 0, "Draw an SVG with gnuplot", 1 },
	{ 0 },
};

static const struct argp argp = {
	options,
	parse,
	NULL,
	"Measures forks of a running VM for every combination of the lists. For comparison, each "
	"fork is followed by a fork(2) of a process and a full copy, with the same amount of "
	"touched memory. PAUSE: how long the vCPUs were stopped. READY: the time from the request "
	"until the child is first seen to run. PARENT: the same for the parent. COLD: READY "
	"without a prepared shell. The table has medians; JSON has p99 and max, too.\v"
	"Examples:\n"
	"  ramet bench clone --memory 64M,1G --dirty all\n"
	"  ramet bench clone --memory 1G --dirty 1M,16M,256M --mode live --plot live.svg\n"
	"  ramet bench clone --kernel vmlinuz --initrd initrd.img --memory 256M\n"
	"  ramet bench clone --json - | jq '.[].pause_us.p50'",
	NULL,
	NULL,
	NULL,
};

int cmd_bench_clone(int argc, char **argv)
{
	struct options o = {
		.cpus = 1,
		.clones = 1,
		.reps = 20,
		.mode = { true, true },
	};
	struct clone_result *list;
	int ret;

	command_parse(&argp, argc, argv, &o);
	list = combinations(&o);
	if (!list)
		return complain("nothing to measure: every --dirty is larger than every --memory");
	raise_fd_limit();
	ret = measure_all(list, o.reps);
	if (!ret)
		ret = report(list, &o);
	clone_results_free(list);
	return ret;
}
