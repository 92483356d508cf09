/* SPDX-License-Identifier: Apache-2.0 */
/* ramet bench churn: makes and stops many clones, and shows what the process still holds. */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "include/ramet/abi.h"
#include "include/ramet/ramet.h"
#include "vmm/base/clock.h"
#include "vmm/bench/bench.h"
#include "vmm/cli/command.h"
#include "vmm/bench/benches.h"
#include "vmm/cli/table.h"

#define WAIT_MS	    60000
#define LOOKS	    11 /* one at the start, then one after each tenth of the clones */
#define THREADS_MAX 64

struct options {
	uint64_t memory;
	unsigned count, threads, batch;
	const char *json;
};

/* One look at what the process holds: descriptors, mappings, threads and bytes. */
struct look {
	unsigned clones, fds, maps, threads;
	uint64_t rss, pool, tables, generations;
};

struct churn {
	const struct options *o;
	struct ramet_family *family;
	struct ramet_vm *template;
	atomic_uint started, stopped;
	atomic_int error;
	struct ramet_err err;
	struct look look[LOOKS];
	unsigned looks;
	uint64_t took_ns;
};

static unsigned entries(const char *path)
{
	DIR *dir = opendir(path);
	unsigned n = 0;

	while (dir && readdir(dir))
		n++;
	if (dir)
		closedir(dir);
	return n > 2 ? n - 2 : 0;
}

static unsigned lines(const char *path)
{
	FILE *f = fopen(path, "re");
	unsigned n = 0;
	int c;

	while (f && (c = getc(f)) != EOF)
		n += c == '\n';
	if (f)
		fclose(f);
	return n;
}

static uint64_t rss(void)
{
	FILE *f = fopen("/proc/self/status", "re");
	unsigned long long kb = 0;
	char line[128];

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "RssAnon: %llu", &kb) == 1)
			break;
	if (f)
		fclose(f);
	return kb << 10;
}

/* Waits until background work has ended, then records what the process holds. */
static void look(struct churn *c)
{
	struct look *l = &c->look[c->looks++];
	struct ramet_family_stat st;

	ramet_family_check(c->family, NULL);
	ramet_family_stat(c->family, &st);
	*l = (struct look){
		.clones = atomic_load(&c->stopped),
		.fds = entries("/proc/self/fd"),
		.maps = lines("/proc/self/maps"),
		.threads = entries("/proc/self/task"),
		.rss = rss(),
		.pool = st.pool_bytes,
		.tables = st.tables,
		.generations = st.generations,
	};
}

/* Makes one fork with n children, and waits until each child has executed something. */
static int one_fork(struct churn *c, unsigned n, struct ramet_vm **vm, struct ramet_err *err)
{
	int r = ramet_fork(c->template, n, RAMET_FORK_RUN, vm, NULL, err);

	if (r)
		return r;
	for (unsigned i = 0; i < n && !r; i++)
		r = ramet_wait(vm[i], RAMET_EV_READY, 0, WAIT_MS);
	for (unsigned i = 0; i < n; i++) {
		ramet_stop(vm[i], NULL);
		ramet_vm_put(vm[i]);
	}
	return r;
}

static void *churn_thread(void *arg)
{
	struct churn *c = arg;
	struct ramet_vm **vm = calloc(c->o->batch, sizeof(*vm));
	struct ramet_err err = { "" };
	int none = 0, r = vm ? 0 : -ENOMEM;
	unsigned stop = atomic_load(&c->stopped) + c->o->count / (LOOKS - 1);

	while (!r && !atomic_load(&c->error) && atomic_fetch_add(&c->started, c->o->batch) < stop) {
		r = one_fork(c, c->o->batch, vm, &err);
		atomic_fetch_add(&c->stopped, c->o->batch);
	}
	if (r && atomic_compare_exchange_strong(&c->error, &none, r))
		c->err = err;
	free(vm);
	return NULL;
}

/* Makes a tenth of the clones, with all threads. */
static int tenth(struct churn *c)
{
	pthread_t thread[THREADS_MAX];
	uint64_t start = now_ns();
	unsigned n = 0;

	atomic_store(&c->started, atomic_load(&c->stopped));
	while (n < c->o->threads && !pthread_create(&thread[n], NULL, churn_thread, c))
		n++;
	for (unsigned i = 0; i < n; i++)
		pthread_join(thread[i], NULL);
	c->took_ns += now_ns() - start;
	return n ? atomic_load(&c->error) : -EAGAIN;
}

static int measure(struct churn *c)
{
	struct ramet_config cfg = { .name = "bench",
		.memory = c->o->memory,
		.guest = "dirty",
		.args = "dirty=all rate=1000",
		.shells = 2 * c->o->threads * c->o->batch };
	struct progress p;
	int r = ramet_launch(&cfg, &c->family, &c->template, &c->err);

	if (r)
		return r;
	r = ramet_wait(c->template, RAMET_EV_PHASE, RAMET_PHASE_READY, WAIT_MS);
	if (!r)
		r = ramet_pause(c->template, &c->err);
	/* Warm up, so that one-time allocations are not counted. */
	for (unsigned i = 0; i < 64 && !r; i++) {
		struct ramet_vm *vm;

		r = one_fork(c, 1, &vm, &c->err);
	}
	look(c);
	progress_start(&p, LOOKS - 1);
	while (!r && c->looks < LOOKS) {
		progress_step(&p, "tenths");
		r = tenth(c);
		look(c);
	}
	progress_end(&p);
	ramet_vm_put(c->template);
	ramet_family_destroy(c->family);
	return r;
}

static double per_second(const struct churn *c)
{
	return atomic_load(&c->stopped) * 1e9 / (double)c->took_ns;
}

static void print_table(const struct churn *c)
{
	static const struct table_column columns[] = {
		{ "CLONES", TABLE_RIGHT },
		{ "FDS", TABLE_RIGHT },
		{ "MAPPINGS", TABLE_RIGHT },
		{ "THREADS", TABLE_RIGHT },
		{ "PRIVATE", TABLE_RIGHT },
		{ "POOL", TABLE_RIGHT },
		{ "TABLES", TABLE_RIGHT },
		{ "GENERATIONS", TABLE_RIGHT },
		{ 0 },
	};
	struct libscols_table *t = table_new(columns);

	for (unsigned i = 0; i < c->looks; i++) {
		struct libscols_line *line = table_line(t, NULL);
		const struct look *l = &c->look[i];

		table_set(line, 0, "%u", l->clones);
		table_set(line, 1, "%u", l->fds);
		table_set(line, 2, "%u", l->maps);
		table_set(line, 3, "%u", l->threads);
		table_set_size(line, 4, l->rss);
		table_set_size(line, 5, l->pool);
		table_set(line, 6, "%" PRIu64, l->tables);
		table_set(line, 7, "%" PRIu64, l->generations);
	}
	table_print(t);
	printf("%.0f clones a second, each forked from a paused template, run, seen alive and "
	       "stopped.\n",
		per_second(c));
}

static int write_json(const struct churn *c)
{
	json_t *looks = json_array(), *all;

	for (unsigned i = 0; i < c->looks; i++) {
		const struct look *l = &c->look[i];

		json_array_append_new(looks,
			json_pack("{s:i, s:i, s:i, s:i, s:I, s:I, s:I, s:I}", "clones",
				(int)l->clones, "fds", (int)l->fds, "mappings", (int)l->maps,
				"threads", (int)l->threads, "rss_anon_bytes", (json_int_t)l->rss,
				"pool_bytes", (json_int_t)l->pool, "tables", (json_int_t)l->tables,
				"generations", (json_int_t)l->generations));
	}
	all = json_pack("{s:I, s:i, s:i, s:i, s:f, s:o}", "memory_mib",
		(json_int_t)(c->o->memory >> 20), "threads", (int)c->o->threads, "batch",
		(int)c->o->batch, "clones", (int)atomic_load(&c->stopped), "clones_per_s",
		per_second(c), "held", looks);
	return json_write(all, c->o->json);
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct options *o = state->input;

	switch (key) {
	case 'm':
		o->memory = opt_size(state, "--memory", arg, RAMET_MEMORY_MIN, RAMET_MEMORY_MAX);
		return 0;
	case 'n':
		o->count = (unsigned)opt_number(state, "--count", arg, LOOKS - 1, 100000000);
		return 0;
	case 't':
		o->threads = (unsigned)opt_number(state, "--threads", arg, 1, THREADS_MAX);
		return 0;
	case 'b':
		o->batch = (unsigned)opt_number(state, "--batch", arg, 1, 256);
		return 0;
	case 'j':
		o->json = arg;
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

int cmd_bench_churn(int argc, char **argv)
{
	static const struct argp_option options[] = {
		{ "memory", 'm', "SIZE", 0, "Guest memory, all of it dirty (64M)", 0 },
		{ "count", 'n', "N", 0, "Total number of clones (10000)", 0 },
		{ "threads", 't', "N", 0, "Threads that make clones (2)", 0 },
		{ "batch", 'b', "N", 0, "Clones made by each fork (1)", 0 },
		{ "json", 'j', "FILE", 0, "Write the results as JSON; - is stdout", 0 },
		{ 0 },
	};
	static const struct argp argp = {
		options,
		parse,
		NULL,
		"Forks a paused template, runs the clones until each has executed something, stops "
		"them, and repeats that. Shows ten times what the process holds.\v"
		"Example:\n  ramet bench churn --count 100000",
		NULL,
		NULL,
		NULL,
	};
	struct options o = { .memory = 64u << 20, .count = 10000, .threads = 2, .batch = 1 };
	struct churn c = { .o = &o };
	int ret;

	command_parse(&argp, argc, argv, &o);
	raise_fd_limit();
	ret = measure(&c);
	if (ret)
		return complain("making and stopping clones: %s",
			c.err.msg[0] ? c.err.msg : strerror(-ret));
	if (!o.json || strcmp(o.json, "-"))
		print_table(&c);
	return o.json ? write_json(&c) : EXIT_OK;
}
