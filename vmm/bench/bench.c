/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/bench/bench.h"

#include <cpuid.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/base/clock.h"
#include "vmm/base/headroom.h"
#include "vmm/cli/command.h"

void series_add(struct series *s, uint64_t value)
{
	if (s->n == s->cap) {
		s->cap = s->cap ? 2 * s->cap : 64;
		s->v = reallocarray(s->v, s->cap, sizeof(*s->v));
		if (!s->v)
			exit(complain("out of memory"));
	}
	s->v[s->n++] = value;
}

static int ascending(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

uint64_t series_percentile(struct series *s, unsigned percent)
{
	if (!s->n)
		return 0;
	qsort(s->v, s->n, sizeof(*s->v), ascending);
	return s->v[((uint64_t)s->n * percent + 99) / 100 - 1];
}

static double us(uint64_t ns)
{
	return (double)(ns / 10) / 100;
}

json_t *series_json(struct series *s)
{
	if (!s->n)
		return json_null();
	return json_pack("{s:f, s:f, s:f}", "p50", us(series_percentile(s, 50)), "p99",
		us(series_percentile(s, 99)), "max", us(series_percentile(s, 100)));
}

void series_free(struct series *s)
{
	free(s->v);
	*s = (struct series){ 0 };
}

void progress_start(struct progress *p, unsigned total)
{
	*p = (struct progress){ .total = total, .start_ns = now_ns() };
}

#define BAR "##############################"

void progress_step(struct progress *p, const char *what)
{
	int width = (int)strlen(BAR),
	    filled = (int)(p->done * strlen(BAR) / (p->total ? p->total : 1));

	if (isatty(STDERR_FILENO) && now_ns() - p->start_ns > 2000000000u) {
		fprintf(stderr, "\r\033[K[%.*s%*s] %u/%u %s", filled, BAR, width - filled, "",
			p->done, p->total, what);
		p->shown = true;
	}
	p->done++;
}

void progress_end(struct progress *p)
{
	if (p->shown)
		fputs("\r\033[K", stderr);
}

uint64_t memory_available(void)
{
	struct headroom_left left;
	struct headroom h;

	headroom_open(&h, "");
	headroom_look(&h, &left);
	headroom_close(&h);
	return left.left;
}

void warm_memory(uint64_t bytes)
{
	uint64_t room = memory_available() / 2;
	size_t len = bytes < room ? bytes : room;
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return;
	madvise(p, len, MADV_POPULATE_WRITE);
	munmap(p, len);
}

FILE *output_open(const char *file)
{
	FILE *f = strcmp(file, "-") ? fopen(file, "we") : stdout;

	if (!f)
		complain("cannot write %s: %s", file, strerror(errno));
	return f;
}

int output_close(FILE *f, const char *file)
{
	int bad = fflush(f) | ferror(f);

	if (f != stdout)
		bad |= fclose(f);
	return bad ? complain("cannot write %s: %s", file, strerror(errno)) : EXIT_OK;
}

static void csv_value(FILE *f, const json_t *v)
{
	if (json_is_string(v))
		fputs(json_string_value(v), f);
	else if (json_is_boolean(v))
		fputs(json_is_true(v) ? "1" : "0", f);
	else if (json_is_number(v))
		fprintf(f, "%.10g", json_number_value(v));
}

/* Writes a JSON object as a row, or the names of its columns. A distribution has three columns. */
static void csv_row(FILE *f, json_t *o, bool names)
{
	static const char *const parts[] = { "p50", "p99", "max" };
	const char *key, *sep = "";
	json_t *v;

	json_object_foreach (o, key, v) {
		size_t len = strlen(key);
		bool spread =
			len > 3 && (!strcmp(key + len - 3, "_us") || !strcmp(key + len - 3, "_ms"));

		for (unsigned i = 0; i < (spread ? 3 : 1); i++, sep = ",") {
			fputs(sep, f);
			if (names)
				fprintf(f, spread ? "%s_%s" : "%s", key, parts[i]);
			else
				csv_value(f, spread ? json_object_get(v, parts[i]) : v);
		}
	}
	fputc('\n', f);
}

int csv_write(json_t *rows, const char *file)
{
	FILE *f = output_open(file);
	json_t *row;
	size_t i;

	if (!f) {
		json_decref(rows);
		return EXIT_TROUBLE;
	}
	json_array_foreach (rows, i, row) {
		if (!i)
			csv_row(f, row, true);
		csv_row(f, row, false);
	}
	json_decref(rows);
	return output_close(f, file);
}

int json_write(json_t *value, const char *file)
{
	FILE *f = output_open(file);

	if (f) {
		json_dumpf(value, f, JSON_INDENT(2) | JSON_REAL_PRECISION(10));
		fputc('\n', f);
	}
	json_decref(value);
	return f ? output_close(f, file) : EXIT_TROUBLE;
}

/* The CPUID leaf with the hypervisor's name; QEMU target/i386/cpu.c. */
bool machine_emulated(void)
{
	uint32_t eax, ebx, ecx, edx;

	__cpuid(1, eax, ebx, ecx, edx);
	if (!(ecx & 1u << 31))
		return false;
	__cpuid(0x40000000, eax, ebx, ecx, edx);
	return ebx == 0x54474354 && ecx == 0x43544743 && edx == 0x47435447; /* TCGTCGTCGTCG */
}

FILE *plot_open(const char *file, unsigned width, unsigned height)
{
	FILE *plot;

	if (system("command -v gnuplot >/dev/null")) {
		complain("plots need gnuplot; install the package gnuplot-nox");
		return NULL;
	}
	plot = popen("gnuplot", "we");
	if (!plot) {
		complain("cannot start gnuplot: %s", strerror(errno));
		return NULL;
	}
	fprintf(plot,
		"set terminal svg size %u,%u font 'DejaVu Sans,12' background 'white'\n"
		"set output '%s'\nset grid lc '#dddddd'\nset key top left\n"
		"set border 3\nset tics nomirror\n",
		width, height, file);
	return plot;
}

int plot_close(FILE *plot, const char *file)
{
	fputs("unset multiplot\nset output\n", plot);
	return pclose(plot) ? complain("gnuplot could not write %s", file) : EXIT_OK;
}
