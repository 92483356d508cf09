/* SPDX-License-Identifier: Apache-2.0 */
/* The results of "ramet bench tables": as tables, CSV, and a picture. */
#include <inttypes.h>
#include <string.h>

#include "vmm/bench/bench.h"
#include "vmm/bench/tables.h"
#include "vmm/cli/command.h"
#include "vmm/cli/table.h"

static const char *text(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "";
}

static double number(const json_t *o, const char *key)
{
	return json_number_value(json_object_get(o, key));
}

static double us(const json_t *o, const char *percentile)
{
	return number(json_object_get(o, "us"), percentile);
}

static void set_us(struct libscols_line *line, unsigned column, double us)
{
	table_set_time(line, column, (uint64_t)(us * 1e3));
}

/* The time of a copy of the same size. It comes first in the results. */
static double copy_us(const json_t *results, double gib)
{
	json_t *o;
	size_t i;

	json_array_foreach (results, i, o)
		if (!strcmp(text(o, "bench"), "fork") && !strcmp(text(o, "share"), "copy") &&
			number(o, "mapped_gib") == gib)
			return us(o, "p50");
	return 0;
}

static void fork_line(struct libscols_table *t, const json_t *results, const json_t *o)
{
	struct libscols_line *line = table_line(t, NULL);
	double gib = number(o, "mapped_gib"), p50 = us(o, "p50");

	table_set_size(line, 0, (uint64_t)(gib * (1u << 30)));
	table_set(line, 1, "%s", text(o, "share"));
	set_us(line, 2, p50);
	set_us(line, 3, us(o, "p99"));
	table_set(line, 4, "%.0fx", p50 > 0 ? copy_us(results, gib) / p50 : 0);
	table_set_size(line, 5, (uint64_t)number(o, "table_bytes_parent"));
	table_set_size(line, 6, (uint64_t)number(o, "table_bytes_child"));
}

static void write_line(struct libscols_table *t, const json_t *results, const json_t *o)
{
	struct libscols_line *line = table_line(t, NULL);

	table_set(line, 0, "%s", text(o, "share"));
	table_set(line, 1, "%s", text(o, "what"));
	set_us(line, 2, us(o, "p50"));
	set_us(line, 3, us(o, "p99"));
}

static void read_line(struct libscols_table *t, const json_t *results, const json_t *o)
{
	struct libscols_line *line = table_line(t, NULL);

	table_set(line, 0, "%s", text(o, "tables"));
	table_set(line, 1, "%.1f ns", number(o, "ns"));
}

static void walks_line(struct libscols_table *t, const json_t *results, const json_t *o)
{
	struct libscols_line *line = table_line(t, NULL);

	table_set(line, 0, "%s", text(o, "scheme"));
	table_set(line, 1, "%.0f", number(o, "threads"));
	table_set(line, 2, "%s", text(o, "tables"));
	table_set(line, 3, "%.1f M/s", number(o, "walks_per_s") / 1e6);
}

static void reclaim_line(struct libscols_table *t, const json_t *results, const json_t *o)
{
	struct libscols_line *line = table_line(t, NULL);

	table_set(line, 0, "%s", text(o, "scheme"));
	table_set_size(line, 1, (uint64_t)(number(o, "mapped_gib") * (1u << 30)));
	table_set(line, 2, "%.0f kB", number(o, "table_bytes_before") / 1024);
	table_set(line, 3, "%.0f kB", number(o, "table_bytes_after") / 1024);
	table_set(line, 4, "%.2f M/s", number(o, "ops_per_s") / 1e6);
}

static const struct output {
	const char *bench, *title;
	struct table_column columns[8];
	void (*line)(struct libscols_table *t, const json_t *results, const json_t *o);
} outputs[] = {
	{ "fork", "Forks of an address space with 4 KiB leaves",
		{ { "MAPPED", TABLE_RIGHT }, { "SHARE", TABLE_LEFT }, { "p50", TABLE_RIGHT },
			{ "p99", TABLE_RIGHT }, { "VS COPY", TABLE_RIGHT },
			{ "PARENT", TABLE_RIGHT }, { "CHILD", TABLE_RIGHT }, { 0 } },
		fork_line },
	{ "first_write", "The first write after a fork of 1G",
		{ { "SHARE", TABLE_LEFT }, { "WRITE", TABLE_LEFT }, { "p50", TABLE_RIGHT },
			{ "p99", TABLE_RIGHT }, { 0 } },
		write_line },
	{ "read", "Translations of random addresses in 1G",
		{ { "SHARED", TABLE_LEFT }, { "EACH", TABLE_RIGHT }, { 0 } }, read_line },
	{ "walks", "Walks that hold the PTE table, over all tables of 1G and over one",
		{ { "SCHEME", TABLE_LEFT }, { "THREADS", TABLE_RIGHT }, { "TABLES", TABLE_LEFT },
			{ "WALKS", TABLE_RIGHT }, { 0 } },
		walks_line },
	{ "reclaim", "Mapped page by page, then discarded page by page",
		{ { "SCHEME", TABLE_LEFT }, { "MAPPED", TABLE_RIGHT }, { "TABLES", TABLE_RIGHT },
			{ "LEFT", TABLE_RIGHT }, { "PAGES", TABLE_RIGHT }, { 0 } },
		reclaim_line },
};

void bench_tables_print(const json_t *results)
{
	for (unsigned i = 0; i < sizeof(outputs) / sizeof(outputs[0]); i++) {
		const struct output *out = &outputs[i];
		struct libscols_table *t = NULL;
		json_t *o;
		size_t k;

		json_array_foreach (results, k, o) {
			if (strcmp(text(o, "bench"), out->bench))
				continue;
			if (!t) {
				printf("%s\n", out->title);
				t = table_new(out->columns);
			}
			out->line(t, results, o);
		}
		if (t) {
			table_print(t);
			putchar('\n');
		}
	}
}

/* One column for each value that any of the benchmarks reports. */
int bench_tables_csv(const json_t *results, const char *file)
{
	static const char *const columns[] = { "bench", "mapped_gib", "share", "what", "tables",
		"scheme", "threads", "p50", "p99", "ns", "walks_per_s", "ops_per_s",
		"table_bytes_parent", "table_bytes_child", "table_bytes_before",
		"table_bytes_after" };
	unsigned n = sizeof(columns) / sizeof(columns[0]);
	FILE *f = output_open(file);
	json_t *o;
	size_t k;

	if (!f)
		return EXIT_TROUBLE;
	for (unsigned i = 0; i < n; i++)
		fprintf(f, "%s%s%s", columns[i], columns[i][0] == 'p' ? "_us" : "",
			i + 1 < n ? "," : "\n");
	json_array_foreach (results, k, o) {
		for (unsigned i = 0; i < n; i++) {
			json_t *v = json_object_get(o, columns[i]);

			if (!v)
				v = json_object_get(json_object_get(o, "us"), columns[i]);
			if (json_is_string(v))
				fputs(json_string_value(v), f);
			else if (json_is_integer(v))
				fprintf(f, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
			else if (v)
				fprintf(f, "%g", json_number_value(v));
			fputc(i + 1 < n ? ',' : '\n', f);
		}
	}
	return output_close(f, file);
}

static void plot_data(FILE *f, const json_t *results, const char *share)
{
	json_t *o;
	size_t k;

	fprintf(f, "$%s << EOD\n", share);
	json_array_foreach (results, k, o) {
		if (!strcmp(text(o, "bench"), "fork") && !strcmp(text(o, "share"), share))
			fprintf(f, "%g %g %g\n", number(o, "mapped_gib"), us(o, "p50"),
				number(o, "table_bytes_child") / 1024);
	}
	fprintf(f, "EOD\n");
}

static void plot_lines(FILE *f, unsigned column)
{
	static const char *const share[] = { "copy", "pte", "pd", "pdpt", "root" };
	static const char *const title[] = { "copy", "share PTE tables", "share PD tables",
		"share PDPT tables", "share the root" };
	static const char *const colour[] = { "#d62728", "#1f77b4", "#2ca02c", "#9467bd",
		"#7f7f7f" };

	for (unsigned i = 0; i < 5; i++)
		fprintf(f,
			"%s $%s using 1:($%u>0?$%u:1/0) with linespoints pt 7 ps 0.5 lw 2 lc '%s' "
			"title '%s'",
			i ? "," : "plot", share[i], column, column, colour[i], title[i]);
	fputc('\n', f);
}

int bench_tables_plot(const json_t *results, const char *file)
{
	FILE *f = plot_open(file, 1000, 480);

	if (!f)
		return EXIT_TROUBLE;
	plot_data(f, results, "copy");
	plot_data(f, results, "pte");
	plot_data(f, results, "pd");
	plot_data(f, results, "pdpt");
	plot_data(f, results, "root");
	fputs("set multiplot layout 1,2\nset logscale xy\nset xlabel 'mapped, GiB'\n"
	      "set title 'Time of a fork, microseconds'\n"
	      "set yrange [0.01:10000000]\n",
		f);
	plot_lines(f, 2);
	fputs("set title 'Tables that only the child has, kB'\nset yrange [1:1000000]\nset key "
	      "off\n",
		f);
	plot_lines(f, 3);
	return plot_close(f, file);
}
