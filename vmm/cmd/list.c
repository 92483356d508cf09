/* SPDX-License-Identifier: Apache-2.0 */
/* ramet list: every VM of every family, as a tree of forks. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/cli/client.h"
#include "vmm/cli/command.h"
#include "vmm/cmd/commands.h"
#include "vmm/cli/table.h"

enum { NAME, STATE, MEMORY, SHARED, PRIVATE, TABLES_SHARED, TABLES, AGE };

static const struct table_column columns[] = {
	[NAME] = { "NAME", TABLE_TREE },
	[STATE] = { "STATE", TABLE_LEFT },
	[MEMORY] = { "MEMORY", TABLE_RIGHT },
	[SHARED] = { "SHARED", TABLE_RIGHT },
	[PRIVATE] = { "PRIVATE", TABLE_RIGHT },
	[TABLES_SHARED] = { "TABLES SHARED", TABLE_RIGHT },
	[TABLES] = { "OWN TABLES", TABLE_RIGHT },
	[AGE] = { "AGE", TABLE_RIGHT },
	{ 0 },
};

/* The table line of a VM. Parents come before their children, in order of their ids. */
struct drawn {
	uint64_t id;
	struct libscols_line *line;
};

static int by_id(const void *a, const void *b)
{
	const struct drawn *x = a, *y = b;

	return (x->id > y->id) - (x->id < y->id);
}

static void draw_vm(struct libscols_line *line, json_t *vm)
{
	table_set(line, NAME, "%s", json_string_value(json_object_get(vm, "name")));
	table_set(line, STATE, "%s", json_string_value(json_object_get(vm, "state")));
	table_set_size(line, MEMORY, reply_u64(vm, "memory"));
	table_set_size(
		line, SHARED, reply_u64(vm, "shared_bytes") + reply_u64(vm, "deferred_bytes"));
	table_set_size(line, PRIVATE, reply_u64(vm, "private_bytes"));
	table_set(line, TABLES_SHARED, "%" JSON_INTEGER_FORMAT,
		(json_int_t)reply_u64(vm, "tables_shared"));
	table_set_size(line, TABLES, reply_u64(vm, "table_bytes"));
	table_set_time(line, AGE, reply_u64(vm, "age_ns"));
}

static void draw_family(struct libscols_table *table, json_t *vms)
{
	size_t i, n = 0;
	struct drawn *drawn = calloc(json_array_size(vms) + 1, sizeof(*drawn));
	json_t *vm;

	if (!drawn)
		exit(complain("out of memory"));
	json_array_foreach (vms, i, vm) {
		uint64_t id = reply_u64(vm, "id");
		struct drawn *parent = NULL;

		if (id) {
			struct drawn key = { .id = reply_u64(vm, "parent_id") };

			parent = bsearch(&key, drawn, n, sizeof(*drawn), by_id);
		}
		drawn[n] = (struct drawn){ id, table_line(table, parent ? parent->line : NULL) };
		draw_vm(drawn[n++].line, vm);
		qsort(drawn, n, sizeof(*drawn), by_id);
	}
	free(drawn);
}

/* Prints the reasons of failed VMs below the table. */
static void print_failures(json_t *vms)
{
	json_t *vm, *why;
	size_t i;

	json_array_foreach (vms, i, vm) {
		if (reply_u64(vm, "exit_status"))
			printf("%s ended with status %d\n",
				json_string_value(json_object_get(vm, "name")),
				(int)reply_u64(vm, "exit_status"));
		why = json_object_get(vm, "failure");
		if (json_is_string(why))
			printf("%s failed: %s\n", json_string_value(json_object_get(vm, "name")),
				json_string_value(why));
	}
}

struct listing {
	struct libscols_table *table; /* or NULL: JSON */
	json_t *all;
	int status;
};

static int list_family(void *arg, const char *family)
{
	struct listing *l = arg;
	struct client c;
	json_t *reply, *vms, *vm;
	size_t i;

	if (client_open(&c, family)) {
		/* -ENOENT: the process died; that has been printed, and its socket is gone. */
		if (c.error != -ENOENT)
			l->status = EXIT_TROUBLE;
		return 0;
	}
	reply = client_call(&c, json_pack("{s:s}", "op", "list"));
	client_close(&c);
	if (!reply) {
		l->status = EXIT_TROUBLE;
		return 0;
	}
	vms = json_object_get(reply, "vms");
	if (l->table)
		draw_family(l->table, vms);
	json_array_foreach (vms, i, vm) {
		json_object_set_new(vm, "family", json_string(family));
		json_array_append(l->all, vm);
	}
	json_decref(reply);
	return 0;
}

static error_t parse_list(int key, char *arg, struct argp_state *state)
{
	bool *json = state->input;

	if (key == 'j') {
		*json = true;
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

int cmd_list(int argc, char **argv)
{
	static const struct argp_option options[] = {
		{ "json", 'j', NULL, 0, "Print a JSON array, one object per VM", 0 },
		{ 0 },
	};
	static const struct argp argp = {
		options,
		parse_list,
		NULL,
		"Draws all your VMs as a tree: each clone is below the VM that it was forked from. "
		"SHARED is memory that a VM shares with others, PRIVATE memory that only it has. "
		"TABLES SHARED are second-level tables that it shares, OWN TABLES tables that only "
		"it has.\v"
		"Example:\n  ramet list --json | jq '.[] | select(.state == \"running\") | .name'",
		NULL,
		NULL,
		NULL,
	};
	struct listing l = { 0 };
	struct ramet_err err;
	bool json = false;
	int dir;

	command_parse(&argp, argc, argv, &json);
	dir = rundir_open(&err);
	if (dir < 0)
		return complain("%s", err.msg);
	l.all = json_array();
	if (!json)
		l.table = table_new(columns);
	rundir_each(dir, list_family, &l);
	close(dir);
	if (json) {
		json_print(l.all);
		return l.status;
	}
	if (json_array_size(l.all)) {
		table_print(l.table);
	} else {
		scols_unref_table(l.table);
		if (!l.status)
			fputs("no VMs\n", stderr);
	}
	print_failures(l.all);
	json_decref(l.all);
	return l.status;
}
