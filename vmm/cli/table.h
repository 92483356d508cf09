/* SPDX-License-Identifier: Apache-2.0 */
/* Tables on stdout: a thin layer over libsmartcols that ends the program when out of memory. */
#ifndef RAMET_VMM_CLI_TABLE_H
#define RAMET_VMM_CLI_TABLE_H

#include <libsmartcols/libsmartcols.h>
#include <stdint.h>

enum { TABLE_LEFT = 0, TABLE_RIGHT = SCOLS_FL_RIGHT, TABLE_TREE = SCOLS_FL_TREE };

struct table_column {
	const char *title;
	int flags;
};

/* A table with these columns, up to a NULL title. */
struct libscols_table *table_new(const struct table_column *columns);
/* A line under `parent` (tree tables) or NULL. */
struct libscols_line *table_line(struct libscols_table *t, struct libscols_line *parent);
void table_set(struct libscols_line *line, unsigned column, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
void table_set_size(struct libscols_line *line, unsigned column, uint64_t bytes);
void table_set_time(struct libscols_line *line, unsigned column, uint64_t ns);
/* Prints and frees it. */
void table_print(struct libscols_table *t);

#endif
