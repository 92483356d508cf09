/* SPDX-License-Identifier: Apache-2.0 */
/* ramet fork: forks a running VM and prints the cost of each clone. */
#include <stdio.h>
#include <string.h>

#include "vmm/cli/client.h"
#include "vmm/cli/command.h"
#include "vmm/cmd/commands.h"
#include "vmm/cli/size.h"
#include "vmm/cli/table.h"

struct fork_args {
	const char *name;
	uint64_t count;
	bool json, run, no_wait, memory;
};

static error_t parse_fork(int key, char *arg, struct argp_state *state)
{
	struct fork_args *a = state->input;

	switch (key) {
	case 'n':
		a->count = opt_number(state, "--count", arg, 1, RAMET_FORK_MAX);
		return 0;
	case 'j':
		a->json = true;
		return 0;
	case 'r':
		a->run = true;
		return 0;
	case 'w':
		a->no_wait = true;
		return 0;
	case 'm':
		a->memory = true;
		return 0;
	}
	return arg_vm(key, arg, state, &a->name);
}

enum { CLONE, PAUSE, READY, SHARED, OWN };

/* A word to print instead of a time. */
static const char *not_ready(json_t *reply, json_t *vm)
{
	const char *state = json_string_value(json_object_get(vm, "state"));
	bool waited = json_is_integer(json_object_get(reply, "ready_timeout_ms"));

	return strcmp(state, "running") ? state : waited ? "late" : "-";
}

static void tell_late(json_t *reply)
{
	unsigned n = (unsigned)reply_u64(reply, "not_ready");

	if (n)
		fprintf(stderr,
			"ramet: %u clone%s had not been seen to run an instruction after %u s; "
			"'ramet "
			"wait NAME --running' waits on\n",
			n, n > 1 ? "s" : "",
			(unsigned)(reply_u64(reply, "ready_timeout_ms") / 1000));
}

static void print_clones(json_t *reply)
{
	static const struct table_column columns[] = {
		[CLONE] = { "CLONE", TABLE_LEFT },
		[PAUSE] = { "PAUSE", TABLE_RIGHT },
		[READY] = { "READY", TABLE_RIGHT },
		[SHARED] = { "TABLES SHARED", TABLE_RIGHT },
		[OWN] = { "OWN TABLES", TABLE_RIGHT },
		{ 0 },
	};
	struct libscols_table *t = table_new(columns);
	size_t i;
	json_t *vm;

	json_array_foreach (json_object_get(reply, "clones"), i, vm) {
		struct libscols_line *line = table_line(t, NULL);

		table_set(line, CLONE, "%s", json_string_value(json_object_get(vm, "name")));
		table_set_time(line, PAUSE, reply_u64(reply, "pause_ns"));
		if (json_is_integer(json_object_get(vm, "ready_ns")))
			table_set_time(line, READY, reply_u64(vm, "ready_ns"));
		else
			table_set(line, READY, "%s", not_ready(reply, vm));
		table_set(line, SHARED, "%" JSON_INTEGER_FORMAT,
			(json_int_t)reply_u64(vm, "tables_shared"));
		table_set_size(line, OWN, reply_u64(vm, "table_bytes"));
	}
	table_print(t);
}

static void memory_row(struct libscols_table *t, const char *what, uint64_t before, uint64_t after,
	uint64_t classic)
{
	struct libscols_line *line = table_line(t, NULL);

	table_set(line, 0, "%s", what);
	table_set_size(line, 1, before);
	table_set_size(line, 2, after);
	if (classic)
		table_set_size(line, 3, classic);
}

/* Prints memory before and after, like the table in the copy-on-write page table patches. For
 * comparison: with copying, each clone would have tables as large as its parent's. */
static void print_memory(json_t *reply, uint64_t clones)
{
	static const struct table_column columns[] = {
		{ "", TABLE_LEFT },
		{ "BEFORE", TABLE_RIGHT },
		{ "AFTER", TABLE_RIGHT },
		{ "HAD TABLES BEEN COPIED", TABLE_RIGHT },
		{ 0 },
	};
	struct libscols_table *t = table_new(columns);
	json_t *b = json_object_get(reply, "before"), *a = json_object_get(reply, "after");
	uint64_t tables = reply_u64(b, "table_bytes");
	uint64_t per_clone = reply_u64(b, "vm_table_bytes");

	memory_row(t, "memory mapped, each VM", reply_u64(b, "mapped_bytes"),
		reply_u64(a, "mapped_bytes"), 0);
	memory_row(t, "second-level tables, all VMs", tables, reply_u64(a, "table_bytes"),
		tables + clones * per_clone);
	memory_row(t, "kernel page tables of the process", reply_u64(b, "host_table_bytes"),
		reply_u64(a, "host_table_bytes"), 0);
	memory_row(t, "free memory of the machine", reply_u64(b, "free_bytes"),
		reply_u64(a, "free_bytes"), 0);
	putchar('\n');
	table_print(t);
}

int cmd_fork(int argc, char **argv)
{
	static const struct argp_option options[] = {
		{ "count", 'n', "N", 0, "How many clones, all of the same moment (1)", 0 },
		{ "run", 'r', NULL, 0, "Let the clones of a paused VM run: it is a template then",
			0 },
		{ "memory", 'm', NULL, 0,
			"Also compare memory before and after; counting takes time", 0 },
		{ "no-wait", 'w', NULL, 0, "Do not wait for the clones' first instruction", 0 },
		{ "json", 'j', NULL, 0, "Print a JSON object", 0 },
		{ 0 },
	};
	static const struct argp argp = {
		options,
		parse_fork,
		"NAME",
		"Forks a running or paused VM; the clones of a paused VM are paused, too. Either "
		"all clones are made, or none. PAUSE is how long the parent's vCPUs were stopped. "
		"READY is the time from the request until the clone is first seen to run; the "
		"command waits up to 10 s for that.\v"
		"Examples:\n  ramet fork web\n  ramet fork web.1 --count 100 --json | jq .pause_ns",
		NULL,
		NULL,
		NULL,
	};
	struct fork_args a = { .count = 1 };
	json_t *reply;

	command_parse(&argp, argc, argv, &a);
	reply = client_ask(a.name,
		json_pack("{s:s, s:s, s:I, s:b, s:b, s:b}", "op", "fork", "vm", a.name, "count",
			(json_int_t)a.count, "run", a.run, "wait", !a.no_wait, "memory", a.memory));
	if (!reply)
		return EXIT_TROUBLE;
	tell_late(reply);
	if (a.json) {
		json_object_del(reply, "ok");
		json_print(reply);
		return EXIT_OK;
	}
	print_clones(reply);
	if (a.memory)
		print_memory(reply, a.count);
	json_decref(reply);
	return EXIT_OK;
}
