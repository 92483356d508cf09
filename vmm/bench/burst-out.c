/* SPDX-License-Identifier: Apache-2.0 */
/* The results of "ramet bench burst": as tables, JSON, CSV, and a picture. */
#include <string.h>

#include "vmm/bench/burst.h"
#include "vmm/cli/command.h"
#include "vmm/cli/size.h"
#include "vmm/cli/table.h"

static const char *const probe_names[BURST_PROBES] = { [PROBE_STAT] = "stat",
	[PROBE_LIST] = "list",
	[PROBE_PAUSE] = "pause",
	[PROBE_STOP] = "stop",
	[PROBE_FORK] = "fork" };

static const char *load_name(const struct burst_result *r)
{
	return r->load == BURST_BUSY ? "busy" : "sleeping";
}

static const char *shells_name(const struct burst_result *r)
{
	return r->prepared ? "prepared" : "made";
}

/* The columns that name the combination; all tables start with them. */
enum { GUESTS, SHELLS, HEAD };

static struct libscols_line *result_line(struct libscols_table *t, const struct burst_result *r)
{
	struct libscols_line *line = table_line(t, NULL);

	table_set(line, GUESTS, "%s", load_name(r));
	table_set(line, SHELLS, "%s", shells_name(r));
	return line;
}

static void set_percentile(
	struct libscols_line *line, unsigned column, struct series *s, unsigned percent)
{
	if (s->n)
		table_set_time(line, column, series_percentile(s, percent));
	else
		table_set(line, column, "-");
}

static void print_lives(struct burst_result *results)
{
	static const struct table_column columns[] = {
		{ "GUESTS", TABLE_LEFT },
		{ "SHELLS", TABLE_LEFT },
		{ "COMMAND", TABLE_RIGHT },
		{ "STARTED", TABLE_RIGHT },
		{ "READY", TABLE_RIGHT },
		{ "ALL READY", TABLE_RIGHT },
		{ "STOP ALL", TABLE_RIGHT },
		{ "GONE", TABLE_RIGHT },
		{ "BASELINE", TABLE_RIGHT },
		{ "BASELINE/READY", TABLE_RIGHT },
		{ 0 },
	};
	struct libscols_table *t = table_new(columns);

	for (struct burst_result *r = results; r; r = r->next) {
		struct libscols_line *line = result_line(t, r);
		struct series *const cells[] = { &r->command, &r->returned, &r->ready,
			&r->last_ready, &r->stop, &r->gone, &r->floor };
		unsigned n = sizeof(cells) / sizeof(cells[0]);
		uint64_t ready = series_percentile(&r->last_ready, 50);

		for (unsigned i = 0; i < n; i++)
			set_percentile(line, HEAD + i, cells[i], 50);
		table_set(line, HEAD + n, "%.3gx",
			ready ? (double)series_percentile(&r->floor, 50) / (double)ready : 0);
	}
	table_print(t);
}

static void print_answers(struct burst_result *results)
{
	static const struct table_column columns[] = {
		{ "GUESTS", TABLE_LEFT },
		{ "SHELLS", TABLE_LEFT },
		{ "PAUSE p99", TABLE_RIGHT },
		{ "stat p99", TABLE_RIGHT },
		{ "list p99", TABLE_RIGHT },
		{ "pause p99", TABLE_RIGHT },
		{ "stop p99", TABLE_RIGHT },
		{ "fork p99", TABLE_RIGHT },
		{ "PRIVATE/CLONE", TABLE_RIGHT },
		{ "HOST/CLONE", TABLE_RIGHT },
		{ 0 },
	};
	struct libscols_table *t = table_new(columns);

	for (struct burst_result *r = results; r; r = r->next) {
		struct libscols_line *line = result_line(t, r);

		set_percentile(line, HEAD, &r->pause, 99);
		for (unsigned i = 0; i < BURST_PROBES; i++)
			set_percentile(line, HEAD + 1 + i, &r->probe[i], 99);
		table_set_size(line, HEAD + 1 + BURST_PROBES, series_percentile(&r->private, 50));
		table_set_size(
			line, HEAD + 2 + BURST_PROBES, series_percentile(&r->host_bytes, 50));
	}
	table_print(t);
}

void burst_print_table(struct burst_result *results, const struct burst_options *o)
{
	char memory[SIZE_TEXT];

	if (machine_emulated())
		puts("Emulated time: compare these with each other only.\n");
	printf("%u clones of a running guest of %s with %u vCPU%s, by one fork.\n\n", o->count,
		size_format(o->memory, memory), o->cpus, o->cpus > 1 ? "s" : "");
	print_lives(results);
	puts("Medians. COMMAND: all of 'ramet fork'. READY: from the request until a clone is seen "
	     "to run; ALL\n"
	     "READY: until the last one is. STOP ALL: all of 'ramet stop --all'. GONE: until the "
	     "family's process\n"
	     "has ended. BASELINE: as many VMs made without ramet, with their registers set, none "
	     "of which runs.\n");
	print_answers(results);
	puts("PAUSE: how long forks stop their parent. Then requests while all clones run. "
	     "PRIVATE: what only\n"
	     "one clone has. HOST: what the host has lost for each clone, with KVM's own memory.");
}

static json_t *ms_json(struct series *s)
{
	if (!s->n)
		return json_null();
	return json_pack("{s:f, s:f, s:f}", "p50", (double)series_percentile(s, 50) / 1e6, "p99",
		(double)series_percentile(s, 99) / 1e6, "max",
		(double)series_percentile(s, 100) / 1e6);
}

static json_t *result_json(struct burst_result *r, const struct burst_options *o)
{
	json_t *all = json_pack(
		"{s:s, s:s, s:b, s:I, s:i, s:i, s:i, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}",
		"guests", load_name(r), "shells", shells_name(r), "emulated", machine_emulated(),
		"memory_mib", (json_int_t)(o->memory >> 20), "vcpus", (int)o->cpus, "clones",
		(int)o->count, "bursts", (int)r->command.n, "command_ms", ms_json(&r->command),
		"started_ms", ms_json(&r->returned), "ready_ms", ms_json(&r->ready), "all_ready_ms",
		ms_json(&r->last_ready), "stop_all_ms", ms_json(&r->stop), "gone_ms",
		ms_json(&r->gone), "baseline_ms", ms_json(&r->floor), "pause_ms",
		ms_json(&r->pause));
	char name[32];

	for (unsigned i = 0; i < BURST_PROBES; i++) {
		snprintf(name, sizeof(name), "answer_%s_ms", probe_names[i]);
		json_object_set_new(all, name, ms_json(&r->probe[i]));
	}
	json_object_set_new(all, "private_bytes_per_clone",
		json_integer((json_int_t)series_percentile(&r->private, 50)));
	json_object_set_new(all, "host_bytes_per_clone",
		json_integer((json_int_t)series_percentile(&r->host_bytes, 50)));
	return all;
}

json_t *burst_json(struct burst_result *results, const struct burst_options *o)
{
	json_t *all = json_array();

	for (struct burst_result *r = results; r; r = r->next)
		json_array_append_new(all, result_json(r, o));
	return all;
}

int burst_write_csv(struct burst_result *results, const struct burst_options *o, const char *file)
{
	return csv_write(burst_json(results, o), file);
}

/* --- the picture: how many clones run, over the time since the request -------------------------
 */

static void block(FILE *f, struct burst_result *r, unsigned index)
{
	unsigned step = r->ready.n / 500 + 1;

	series_percentile(&r->ready, 50); /* sorts */
	fprintf(f, "$case%u << EOD\n0 0\n", index);
	for (unsigned i = step - 1; i < r->ready.n; i += step)
		fprintf(f, "%g %g\n", (double)r->ready.v[i] / 1e6, (i + 1.0) / r->command.n);
	fputs("EOD\n", f);
}

int burst_plot(struct burst_result *results, const struct burst_options *o, const char *file)
{
	static const char *const colour[] = { "#1f77b4", "#7fb2dd", "#2ca02c", "#98d594" };
	FILE *f = plot_open(file, 900, 520);
	double floor = (double)series_percentile(&results->floor, 50) / 1e6;
	unsigned n = 0;

	if (!f)
		return EXIT_TROUBLE;
	for (struct burst_result *r = results; r; r = r->next)
		block(f, r, n++);
	fprintf(f,
		"set xlabel 'milliseconds since the request'\nset ylabel 'clones'\n"
		"set key outside top center\nset xrange [0:*]\nset yrange [0:%g]\n"
		"$floor << EOD\n0 0\n%g %u\nEOD\n"
		"plot $floor using 1:2 with lines lw 2 dt 2 lc '#d62728' "
		"title 'VMs without ramet, made but not run'",
		o->count * 1.05, floor, o->count);
	n = 0;
	for (struct burst_result *r = results; r; r = r->next, n++)
		fprintf(f,
			", $case%u using 1:2 with lines lw 2 lc '%s' title 'ramet: %s guests seen "
			"to run, shells %s'",
			n, colour[2 * r->load + !r->prepared], load_name(r), shells_name(r));
	fputc('\n', f);
	return plot_close(f, file);
}
