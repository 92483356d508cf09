/* SPDX-License-Identifier: Apache-2.0 */
/* Tables on stdout: a thin layer over libsmartcols. If memory runs out, the program ends. */
#ifndef RAMET_VMM_CLI_TABLE_H
#define RAMET_VMM_CLI_TABLE_H

#include <libsmartcols/libsmartcols.h>
#include <stdint.h>

enum { TABLE_LEFT = 0, TABLE_RIGHT = SCOLS_FL_RIGHT, TABLE_TREE = SCOLS_FL_TREE };

struct table_column {
	const char *title;
	int flags;
};

/* Makes a table with these columns; the last one has a NULL title. */
struct libscols_table *table_new(const struct table_column *columns);
/* Adds a line, in tree tables below `parent`, which may be NULL. */
struct libscols_line *table_line(struct libscols_table *t, struct libscols_line *parent);
void table_set(struct libscols_line *line, unsigned column, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
void table_set_size(struct libscols_line *line, unsigned column, uint64_t bytes);
void table_set_time(struct libscols_line *line, unsigned column, uint64_t ns);
/* Prints and frees the table. */
void table_print(struct libscols_table *t);

#endif
