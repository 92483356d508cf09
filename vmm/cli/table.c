/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/cli/table.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "vmm/cli/command.h"
#include "vmm/cli/size.h"

static void *or_die(void *p)
{
	if (!p)
		exit(complain("out of memory"));
	return p;
}

struct libscols_table *table_new(const struct table_column *columns)
{
	struct libscols_table *t;

	scols_init_debug(0);
	t = or_die(scols_new_table());
	for (; columns->title; columns++)
		or_die(scols_table_new_column(t, columns->title, 0, columns->flags));
	return t;
}

struct libscols_line *table_line(struct libscols_table *t, struct libscols_line *parent)
{
	return or_die(scols_table_new_line(t, parent));
}

void table_set(struct libscols_line *line, unsigned column, const char *fmt, ...)
{
	char *text;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		text = NULL;
	va_end(ap);
	scols_line_refer_data(line, column, or_die(text));
}

void table_set_size(struct libscols_line *line, unsigned column, uint64_t bytes)
{
	char text[SIZE_TEXT];

	table_set(line, column, "%s", size_format(bytes, text));
}

void table_set_time(struct libscols_line *line, unsigned column, uint64_t ns)
{
	char text[SIZE_TEXT];

	table_set(line, column, "%s", time_format(ns, text));
}

void table_print(struct libscols_table *t)
{
	scols_print_table(t);
	scols_unref_table(t);
}
