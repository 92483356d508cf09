/* SPDX-License-Identifier: Apache-2.0 */
/* ramet bench recover: how fast parent and child write again after a fork. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "include/ramet/abi.h"
#include "include/ramet/ramet.h"
#include "vmm/base/clock.h"
#include "vmm/bench/bench.h"
#include "vmm/cli/command.h"
#include "vmm/bench/benches.h"
#include "vmm/cli/size.h"

#define PAGE	    4096u
#define WINDOW_MS   20u /* one sample of a rate */
#define BEFORE	    25u /* windows before the fork */
#define STEADY	    5u	/* windows whose mean rate must have recovered */
#define WINDOWS_MAX 3000u
#define WAIT_MS	    600000
#define NEVER	    WINDOWS_MAX

enum { PARENT, CHILD, SIDES };

struct options {
	uint64_t memory, dirty;
	unsigned after; /* windows watched after the fork */
	unsigned child; /* windows after which the child is stopped */
	const char *json, *plot;
};

struct window {
	double t_ms;	    /* middle of the window; the fork is at 0 */
	double rate[SIDES]; /* pages per second; -1 before birth */
};

struct result {
	struct window w[WINDOWS_MAX];
	unsigned n;
	double undisturbed;	    /* median rate before the fork */
	double recovered_ms[SIDES]; /* -1: not within the measured time */
};

static int failed(const char *what, int err, const struct ramet_err *e)
{
	return complain("%s: %s", what, e && e->msg[0] ? e->msg : strerror(-err));
}

static uint32_t pages_written(struct ramet_vm *vm)
{
	struct ramet_stat st;

	ramet_vm_stat_quick(vm, &st);
	return st.counter;
}

/* Measures the rates of parent and child (if there is one), window by window. */
static void watch(struct result *r, struct ramet_vm **side, unsigned windows, uint64_t zero)
{
	uint32_t last[SIDES] = { 0 };
	uint64_t then = now_ns();

	for (unsigned s = 0; s < SIDES && side[s]; s++)
		last[s] = pages_written(side[s]);
	for (unsigned i = 0; i < windows && r->n < WINDOWS_MAX; i++) {
		struct timespec nap = { .tv_nsec = WINDOW_MS * 1000000 };
		struct window *w = &r->w[r->n++];
		uint64_t now;

		nanosleep(&nap, NULL);
		now = now_ns();
		w->t_ms = ((double)now / 2 + (double)then / 2 - (double)zero) / 1e6;
		for (unsigned s = 0; s < SIDES; s++) {
			uint32_t count = side[s] ? pages_written(side[s]) : 0;

			w->rate[s] = side[s] ? (count - last[s]) * 1e9 / (double)(now - then) : -1;
			last[s] = count;
		}
		then = now;
	}
}

static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median_before(const struct result *r)
{
	double v[BEFORE];

	for (unsigned i = 0; i < BEFORE; i++)
		v[i] = r->w[i].rate[PARENT];
	qsort(v, BEFORE, sizeof(*v), ascending);
	return v[BEFORE / 2];
}

/* The first window from which the mean of STEADY windows is 90 % of the undisturbed rate. A single
 * window is not enough: the machine's other load may have changed in it. */
static double recovered(const struct result *r, unsigned side)
{
	for (unsigned i = BEFORE; i + STEADY <= r->n; i++) {
		double sum = 0;

		for (unsigned j = 0; j < STEADY; j++)
			sum += r->w[i + j].rate[side];
		if (sum >= 0.9 * STEADY * r->undisturbed)
			return r->w[i].t_ms;
	}
	return -1;
}

/* Waits until the VM has written each of its pages since its counter was `from`. */
static int wait_pages(struct ramet_vm *vm, uint32_t from, uint64_t pages)
{
	struct timespec nap = { .tv_nsec = 5000000 };
	struct ramet_stat st;

	do {
		nanosleep(&nap, NULL);
		ramet_vm_stat_quick(vm, &st);
		if (st.state != RAMET_RUNNING)
			return -ESRCH;
	} while (st.counter - from < pages);
	return 0;
}

/* Replaces *vm by a clone of it whose pages are all dirty again. */
static int make_live(struct ramet_vm **vm, uint64_t pages, struct ramet_err *err)
{
	struct ramet_vm *clone;
	int ret = ramet_wait(*vm, RAMET_EV_PHASE, RAMET_PHASE_READY, WAIT_MS);

	if (!ret)
		ret = ramet_fork(*vm, 1, 0, &clone, NULL, err);
	if (ret)
		return ret;
	ramet_stop(*vm, NULL);
	ramet_vm_put(*vm);
	*vm = clone;
	return wait_pages(clone, pages_written(clone), pages);
}

static int watch_fork(
	struct result *r, struct ramet_vm *vm, const struct options *o, struct ramet_err *err)
{
	unsigned both = o->child < o->after ? o->child : o->after;
	struct ramet_vm *side[SIDES] = { vm, NULL };
	struct ramet_fork_times t;
	uint64_t start = now_ns();
	int ret;

	watch(r, side, BEFORE, start);
	r->undisturbed = median_before(r);
	ret = ramet_fork(vm, 1, 0, &side[CHILD], &t, err);
	if (ret)
		return ret;
	for (unsigned i = 0; i < BEFORE; i++)
		r->w[i].t_ms -= (double)(t.request_ns - start) / 1e6;
	watch(r, side, both, t.request_ns);
	if (both < o->after)
		ramet_stop(side[CHILD], NULL);
	ramet_vm_put(side[CHILD]);
	side[CHILD] = NULL;
	watch(r, side, o->after - both, t.request_ns);
	for (unsigned s = 0; s < SIDES; s++)
		r->recovered_ms[s] = recovered(r, s);
	return 0;
}

static int measure(struct result *r, const struct options *o)
{
	char args[64];
	struct ramet_config cfg = {
		.name = "bench", .memory = o->memory, .guest = "dirty", .args = args
	};
	struct ramet_family *family;
	struct ramet_err err = { "" };
	struct ramet_vm *vm;
	int ret;

	snprintf(args, sizeof(args), "dirty=%" PRIu64 " rate=max", o->dirty);
	ret = ramet_launch(&cfg, &family, &vm, &err);
	if (ret)
		return failed("launching the guest", ret, &err);
	ret = make_live(&vm, o->dirty / PAGE, &err);
	if (!ret)
		ret = watch_fork(r, vm, o, &err);
	ramet_vm_put(vm);
	ramet_family_destroy(family);
	return ret ? failed("watching a fork", ret, &err) : EXIT_OK;
}

static json_t *side_json(const struct result *r, unsigned side)
{
	json_t *samples = json_array();

	for (unsigned i = 0; i < r->n; i++)
		if (r->w[i].rate[side] >= 0)
			json_array_append_new(
				samples, json_pack("[f, f]", r->w[i].t_ms, r->w[i].rate[side]));
	return json_pack("{s:o, s:o}", "recovered_ms",
		r->recovered_ms[side] < 0 ? json_null() : json_real(r->recovered_ms[side]),
		"samples", samples);
}

static int write_json(const struct result *r, const struct options *o)
{
	FILE *f = output_open(o->json);
	json_t *obj;

	if (!f)
		return EXIT_TROUBLE;
	obj = json_pack("{s:I, s:I, s:f, s:o, s:o}", "memory_mib", (json_int_t)(o->memory >> 20),
		"dirty_mib", (json_int_t)(o->dirty >> 20), "undisturbed_pages_per_s",
		r->undisturbed, "parent", side_json(r, PARENT), "child", side_json(r, CHILD));
	json_dumpf(obj, f, JSON_INDENT(2) | JSON_REAL_PRECISION(8));
	fputc('\n', f);
	json_decref(obj);
	return output_close(f, o->json);
}

static int draw(const struct result *r, const struct options *o)
{
	FILE *f = plot_open(o->plot, 900, 480);
	char d[SIZE_TEXT];

	if (!f)
		return EXIT_TROUBLE;
	fputs("$d << EOD\n", f);
	for (unsigned i = 0; i < r->n; i++)
		fprintf(f, "%g %g %g\n", r->w[i].t_ms, r->w[i].rate[PARENT] / 1e3,
			r->w[i].rate[CHILD] / 1e3);
	fprintf(f,
		"EOD\nset title 'Writing %s over and over; forked at 0'\n"
		"set xlabel 'milliseconds'\nset ylabel 'thousand pages written a second'\n"
		"set yrange [0:*]\nset key bottom right\nset arrow from 0, graph 0 to 0, graph 1 "
		"nohead dt 2\n"
		"plot %g with lines dt 2 lc '#888888' title '90 %% of undisturbed', "
		"$d using 1:2 with lines lw 2 lc '#1f77b4' title 'parent', "
		"$d using 1:($3<0?1/0:$3) with lines lw 2 lc '#2ca02c' title 'child'\n",
		size_format(o->dirty, d), 0.9 * r->undisturbed / 1e3);
	return plot_close(f, o->plot);
}

static void print_side(const char *name, double ms)
{
	if (ms < 0)
		printf("%s: not back at 90 %% in the time watched\n", name);
	else
		printf("%s: back at 90 %% after %.0f ms\n", name, ms);
}

static int report(const struct result *r, const struct options *o)
{
	int ret = EXIT_OK;

	if (!o->json || strcmp(o->json, "-")) {
		printf("undisturbed: %.0f pages/s\n", r->undisturbed);
		print_side("parent", r->recovered_ms[PARENT]);
		if (o->child == NEVER)
			print_side("child", r->recovered_ms[CHILD]);
	}
	if (o->json)
		ret |= write_json(r, o);
	if (o->plot)
		ret |= draw(r, o);
	return ret;
}

enum { OPT_DIRTY = 256, OPT_PLOT, OPT_CHILD };

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct options *o = state->input;

	switch (key) {
	case 'm':
		o->memory = opt_size(state, "--memory", arg, RAMET_MEMORY_MIN, RAMET_MEMORY_MAX);
		return 0;
	case OPT_DIRTY:
		o->dirty = opt_size(state, "--dirty", arg, PAGE, RAMET_MEMORY_MAX);
		return 0;
	case 't':
		o->after = (unsigned)opt_number(state, "--time", arg, 1, 25) * 1000 / WINDOW_MS;
		return 0;
	case OPT_CHILD:
		o->child = (unsigned)opt_number(state, "--child", arg, 0, 25000) / WINDOW_MS;
		return 0;
	case 'j':
		o->json = arg;
		return 0;
	case OPT_PLOT:
		o->plot = arg;
		return 0;
	case ARGP_KEY_END:
		if (o->dirty > o->memory - (4u << 20))
			argp_error(state, "--dirty: must leave 4M of --memory to the guest itself");
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

int cmd_bench_recover(int argc, char **argv)
{
	static const struct argp_option options[] = {
		{ "memory", 'm', "SIZE", 0, "Guest memory (256M)", 0 },
		{ "dirty", OPT_DIRTY, "SIZE", 0, "Memory that is written again and again (64M)",
			0 },
		{ "time", 't', "SECONDS", 0, "How long to measure after the fork (5)", 0 },
		{ "child", OPT_CHILD, "MS", 0,
			"Stop the child after this many milliseconds, 0: at once (default: never)",
			0 },
		{ "json", 'j', "FILE", 0, "Write the results as JSON; - is stdout", 0 },
		{ "plot", OPT_PLOT, "FILE", 0, "Draw an SVG with gnuplot", 0 },
		{ 0 },
	};
	static const struct argp argp = {
		options,
		parse,
		NULL,
		"Forks a clone that writes to its memory as fast as it can, and measures how long "
		"parent "
		"and child take until they write at 90 % of the rate before the fork.\v"
		"Examples:\n"
		"  ramet bench recover --dirty 128M --plot recover.svg\n"
		"  ramet bench recover --dirty 128M --child 0   (try it and throw it away)",
		NULL,
		NULL,
		NULL,
	};
	struct options o = {
		.memory = 256u << 20, .dirty = 64u << 20, .after = 5000 / WINDOW_MS, .child = NEVER
	};
	struct result *r = calloc(1, sizeof(*r));
	int ret;

	command_parse(&argp, argc, argv, &o);
	if (!r)
		return complain("out of memory");
	raise_fd_limit();
	warm_memory(6 * o.dirty);
	ret = measure(r, &o);
	if (!ret)
		ret = report(r, &o);
	free(r);
	return ret;
}
