/* SPDX-License-Identifier: Apache-2.0 */
/* The results of "ramet bench clone": as a table, JSON, CSV, and a picture. */
#include <inttypes.h>
#include <string.h>

#include "vmm/bench/clone.h"
#include "vmm/cli/command.h"
#include "vmm/cli/size.h"
#include "vmm/cli/table.h"

static const char *mode_name(const struct clone_result *r)
{
	return r->mode == MODE_LIVE ? "live" : "template";
}

static void set_median(struct libscols_line *line, unsigned column, struct series *s)
{
	if (s->n)
		table_set_time(line, column, series_percentile(s, 50));
	else
		table_set(line, column, "-");
}

static void set_ratio(
	struct libscols_line *line, unsigned column, struct series *base, struct series *ours)
{
	uint64_t t = series_percentile(ours, 50);

	if (base->n && t)
		table_set(line, column, "%.3gx", (double)series_percentile(base, 50) / (double)t);
	else
		table_set(line, column, "-");
}

/* The columns that name the combination; both tables start with them. */
enum { MEMORY, DIRTY, MODE, HEAD };

static struct libscols_line *result_line(struct libscols_table *t, const struct clone_result *r)
{
	struct libscols_line *line = table_line(t, NULL);

	table_set_size(line, MEMORY, r->memory);
	table_set_size(line, DIRTY, r->dirty);
	table_set(line, MODE, "%s", mode_name(r));
	return line;
}

static void print_times(struct clone_result *results)
{
	static const struct table_column columns[] = {
		{ "MEMORY", TABLE_RIGHT },
		{ "DIRTY", TABLE_RIGHT },
		{ "MODE", TABLE_LEFT },
		{ "PAUSE", TABLE_RIGHT },
		{ "READY", TABLE_RIGHT },
		{ "PARENT", TABLE_RIGHT },
		{ "COLD", TABLE_RIGHT },
		{ "FORK 4K", TABLE_RIGHT },
		{ "FORK THP", TABLE_RIGHT },
		{ "COPY", TABLE_RIGHT },
		{ 0 },
	};
	struct libscols_table *t = table_new(columns);

	for (struct clone_result *r = results; r; r = r->next) {
		struct libscols_line *line = result_line(t, r);
		struct series *const cells[] = { &r->pause, &r->ready, &r->parent_ready, &r->cold,
			&r->base[BASELINE_FORK4K], &r->base[BASELINE_FORKTHP],
			&r->base[BASELINE_COPY] };

		for (unsigned i = 0; i < sizeof(cells) / sizeof(cells[0]); i++)
			set_median(line, HEAD + i, cells[i]);
	}
	table_print(t);
}

static void print_ratios(struct clone_result *results)
{
	static const struct table_column columns[] = {
		{ "MEMORY", TABLE_RIGHT },
		{ "DIRTY", TABLE_RIGHT },
		{ "MODE", TABLE_LEFT },
		{ "4K/PAUSE", TABLE_RIGHT },
		{ "THP/PAUSE", TABLE_RIGHT },
		{ "COPY/PAUSE", TABLE_RIGHT },
		{ "4K/READY", TABLE_RIGHT },
		{ "THP/READY", TABLE_RIGHT },
		{ "COPY/READY", TABLE_RIGHT },
		{ "PRIVATE/CLONE", TABLE_RIGHT },
		{ 0 },
	};
	struct libscols_table *t = table_new(columns);

	for (struct clone_result *r = results; r; r = r->next) {
		struct libscols_line *line = result_line(t, r);

		for (unsigned k = 0; k < BASELINE_KINDS; k++) {
			set_ratio(line, HEAD + k, &r->base[k], &r->pause);
			set_ratio(line, HEAD + BASELINE_KINDS + k, &r->base[k], &r->ready);
		}
		table_set_size(line, HEAD + 2 * BASELINE_KINDS, series_percentile(&r->private, 50));
	}
	table_print(t);
}

void clone_print_table(struct clone_result *results)
{
	if (machine_emulated())
		puts("Emulated time: compare these with each other only.\n");
	print_times(results);
	puts("Medians. FORK: a fork(2) call in a process with DIRTY touched, 4K or huge (THP) "
	     "pages; its\n"
	     "child exits at once. COPY: memcpy of DIRTY to huge pages touched before.\n");
	print_ratios(results);
}

static json_t *result_json(struct clone_result *r)
{
	return json_pack("{s:s, s:b, s:I, s:I, s:i, s:i, s:s, s:i, s:o, s:o, s:o, s:o, s:o, s:o, "
			 "s:o, s:I, s:I, "
			 "s:I, s:I}",
		"guest", r->guest ? "linux" : "dirty", "emulated", machine_emulated(), "memory_mib",
		(json_int_t)(r->memory >> 20), "dirty_mib", (json_int_t)(r->dirty >> 20), "vcpus",
		(int)r->cpus, "clones", (int)r->clones, "mode", mode_name(r), "forks",
		(int)r->pause.n, "pause_us", series_json(&r->pause), "ready_us",
		series_json(&r->ready), "parent_ready_us", series_json(&r->parent_ready),
		"cold_ready_us", series_json(&r->cold), "fork4k_us",
		series_json(&r->base[BASELINE_FORK4K]), "forkthp_us",
		series_json(&r->base[BASELINE_FORKTHP]), "fullcopy_us",
		series_json(&r->base[BASELINE_COPY]), "tables_before_bytes",
		(json_int_t)r->tables_before, "tables_after_bytes", (json_int_t)r->tables_after,
		"tables_classic_bytes", (json_int_t)r->tables_classic, "private_bytes_per_clone",
		(json_int_t)series_percentile(&r->private, 50));
}

json_t *clone_json(struct clone_result *results)
{
	json_t *all = json_array();

	for (struct clone_result *r = results; r; r = r->next)
		json_array_append_new(all, result_json(r));
	return all;
}

int clone_write_csv(struct clone_result *results, const char *file)
{
	return csv_write(clone_json(results), file);
}

/* --- the picture ------------------------------------------------------------------------------ */

/* A panel shows times against one of the two lists (its axis). The position in the other list is
 * fixed. */
struct panel {
	const char *axis;
	bool against_dirty;
	unsigned held; /* fixed index in the other list */
	unsigned points;
	double min, max; /* range of the axis, MiB */
};

static bool in_panel(const struct panel *p, const struct clone_result *r)
{
	return (p->against_dirty ? r->memory_index : r->dirty_index) == p->held;
}

static double position(const struct panel *p, const struct clone_result *r)
{
	return (double)(p->against_dirty ? r->dirty : r->memory) / (1 << 20);
}

static void find_range(struct panel *p, const struct clone_result *results)
{
	p->min = 1e9;
	for (const struct clone_result *r = results; r; r = r->next)
		if (in_panel(p, r)) {
			p->min = position(p, r) < p->min ? position(p, r) : p->min;
			p->max = position(p, r) > p->max ? position(p, r) : p->max;
		}
}

/* Chooses the fixed position that shows the most points; of equal ones, the largest. */
static void choose(struct panel *p, const struct clone_result *results)
{
	struct panel best = *p;

	for (p->held = 0; p->held < BENCH_LIST_MAX; p->held++) {
		p->points = 0;
		for (const struct clone_result *r = results; r; r = r->next)
			p->points += in_panel(p, r) && r->mode == results->mode;
		if (p->points && p->points >= best.points)
			best = *p;
	}
	*p = best;
}

static void block(FILE *f, const struct panel *p, struct clone_result *results, const char *name,
	enum clone_mode mode)
{
	fprintf(f, "$%s << EOD\n", name);
	for (struct clone_result *r = results; r; r = r->next)
		if (r->mode == mode && in_panel(p, r))
			fprintf(f, "%g %g %g %g %g %g\n", position(p, r),
				(double)series_percentile(&r->pause, 50) / 1e3,
				(double)series_percentile(&r->ready, 50) / 1e3,
				(double)series_percentile(&r->base[BASELINE_FORK4K], 50) / 1e3,
				(double)series_percentile(&r->base[BASELINE_FORKTHP], 50) / 1e3,
				(double)series_percentile(&r->base[BASELINE_COPY], 50) / 1e3);
	fputs("EOD\n", f);
}

static bool has_mode(const struct clone_result *r, enum clone_mode mode)
{
	for (; r; r = r->next)
		if (r->mode == mode)
			return true;
	return false;
}

/* The title names the fixed size, unless it differs from point to point. */
static void title(FILE *f, const struct panel *p, const struct clone_result *results)
{
	uint64_t held = 0;
	bool same = true;
	char text[SIZE_TEXT];

	for (const struct clone_result *r = results; r; r = r->next)
		if (in_panel(p, r)) {
			uint64_t v = p->against_dirty ? r->memory : r->dirty;

			same = same && (!held || held == v);
			held = v;
		}
	if (same)
		fprintf(f, "set title '%s %s'\n", size_format(held, text),
			p->against_dirty ? "of guest memory" : "dirty");
	else
		fputs("set title 'all of it dirty'\n", f);
}

static void draw_panel(FILE *f, const struct panel *p, struct clone_result *results)
{
	static const struct {
		enum clone_mode mode;
		const char *block, *label, *colour;
		unsigned column;
	} ours[] = {
		{ MODE_LIVE, "live", "live clone: ready", "#1f77b4", 3 },
		{ MODE_LIVE, "live", "live clone: pause", "#7fb2dd", 2 },
		{ MODE_TEMPLATE, "template", "template: ready", "#2ca02c", 3 },
		{ MODE_TEMPLATE, "template", "template: pause", "#98d594", 2 },
	};
	const char *base = has_mode(results, MODE_TEMPLATE) ? "template" : "live";

	block(f, p, results, "template", MODE_TEMPLATE);
	block(f, p, results, "live", MODE_LIVE);
	title(f, p, results);
	fprintf(f, "set xlabel '%s' offset 0,0.4\nset xrange [%g:%g]\nplot ", p->axis, 0.8 * p->min,
		1.25 * p->max);
	fprintf(f,
		"$%s using 1:($6>0?$6:1/0) with linespoints lw 2 pt 8 lc '#8c564b' title 'full "
		"copy', "
		"$%s using 1:($4>0?$4:1/0) with linespoints lw 2 pt 4 lc '#d62728' title 'fork(2), "
		"4K "
		"pages', "
		"$%s using 1:($5>0?$5:1/0) with linespoints lw 2 pt 6 lc '#ff9896' title 'fork(2), "
		"huge "
		"pages'",
		base, base, base);
	for (unsigned i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
		if (has_mode(results, ours[i].mode))
			fprintf(f,
				", $%s using 1:%u with linespoints lw 2 pt 7 lc '%s' title 'ramet, "
				"%s'",
				ours[i].block, ours[i].column, ours[i].colour, ours[i].label);
	fputc('\n', f);
}

int clone_plot(struct clone_result *results, const char *file)
{
	struct panel panels[] = {
		{ .axis = "guest memory, MiB" },
		{ .axis = "dirty memory, MiB", .against_dirty = true },
	};
	unsigned n = 0;
	FILE *f;

	for (unsigned i = 0; i < 2; i++) {
		choose(&panels[i], results);
		find_range(&panels[i], results);
	}
	/* If both axes have a single point, one panel is enough. */
	if (panels[0].points < 2 && panels[1].points < 2)
		panels[0].points = 2;
	n = (panels[0].points > 1) + (panels[1].points > 1);
	f = plot_open(file, n * 620, 560);
	if (!f)
		return EXIT_TROUBLE;
	fprintf(f,
		"set multiplot layout 1,%u\nset logscale x 2\nset logscale y\n"
		"set format y '%%.0f'\nset format x '%%.0f'\nset yrange [10:*]\n"
		"set ylabel 'microseconds, median'\n"
		"set bmargin 9\nset key at graph 0.5,-0.14 center top maxrows 4 samplen 2 width "
		"-2\n",
		n);
	for (unsigned i = 0; i < 2; i++)
		if (panels[i].points > 1)
			draw_panel(f, &panels[i], results);
	return plot_close(f, file);
}
