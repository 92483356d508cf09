/* SPDX-License-Identifier: Apache-2.0 */
/* ramet stat: shows one VM in full, and the totals of its family. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "vmm/cli/client.h"
#include "vmm/cli/command.h"
#include "vmm/cmd/commands.h"
#include "vmm/cli/size.h"

struct stat_args {
	const char *name;
	bool json;
};

static error_t parse_stat(int key, char *arg, struct argp_state *state)
{
	struct stat_args *a = state->input;

	switch (key) {
	case 'j':
		a->json = true;
		return 0;
	}
	return arg_vm(key, arg, state, &a->name);
}

/* "private_bytes" -> "private      1.5M": the end of the key names the unit. */
static void print_field(const char *key, json_t *value)
{
	size_t len = strlen(key);
	bool bytes = (len > 6 && !strcmp(key + len - 6, "_bytes")) || !strcmp(key, "memory");
	bool ns = len > 3 && !strcmp(key + len - 3, "_ns");
	char label[32], text[SIZE_TEXT];

	snprintf(label, sizeof(label), "%.*s",
		(int)(len - (ns					     ? 3
				    : bytes && strcmp(key, "memory") ? 6
								     : 0)),
		key);
	for (char *p = label; *p; p++)
		if (*p == '_')
			*p = ' ';
	printf("  %-17s", label);
	if (json_is_string(value))
		puts(json_string_value(value));
	else if (json_is_null(value))
		puts("-");
	else if (bytes)
		puts(size_format((uint64_t)json_integer_value(value), text));
	else if (ns)
		puts(time_format((uint64_t)json_integer_value(value), text));
	else
		printf("%" JSON_INTEGER_FORMAT "\n", json_integer_value(value));
}

static void print_section(const char *title, json_t *obj)
{
	const char *key;
	json_t *value;

	puts(title);
	json_object_foreach (obj, key, value)
		print_field(key, value);
}

int cmd_stat(int argc, char **argv)
{
	static const struct argp_option options[] = {
		{ "json", 'j', NULL, 0, "Print a JSON object", 0 },
		{ 0 },
	};
	static const struct argp argp = {
		options,
		parse_stat,
		"NAME",
		"Shows one VM in full, and the totals of its family: what all its VMs hold "
		"together.\v"
		"For a VM: births counts its boot, forks and resets; age and ready are times since "
		"the last birth. The guest sends counter (the value of its last heartbeat), phase "
		"(1: ready) and exit status (-1: the guest has not ended the VM). Memory is "
		"private, shared (and accessed), or deferred (shared, not accessed since its "
		"birth).\n\n"
		"For a family: a span is 2 MiB of guest memory. Resolved spans are those whose "
		"pages were assigned to frames after a fork. Taken back spans are those that a VM "
		"took back after its own fork, unchanged. ramet-stat(1) explains each line.\n\n"
		"Example:\n  ramet stat web.1 --json | jq .vm.private_bytes",
		NULL,
		NULL,
		NULL,
	};
	struct stat_args a = { 0 };
	json_t *reply;

	command_parse(&argp, argc, argv, &a);
	reply = client_ask(a.name, json_pack("{s:s, s:s}", "op", "stat", "vm", a.name));
	if (!reply)
		return EXIT_TROUBLE;
	if (a.json) {
		json_object_del(reply, "ok");
		json_print(reply);
		return EXIT_OK;
	}
	print_section("VM", json_object_get(reply, "vm"));
	print_section("Family", json_object_get(reply, "family"));
	json_decref(reply);
	return EXIT_OK;
}
