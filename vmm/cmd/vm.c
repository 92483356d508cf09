/* SPDX-License-Identifier: Apache-2.0 */
/* ramet pause, resume, reset, stop, wait: one request for each VM on the command line. */
#include <stdio.h>
#include <string.h>

#include "include/ramet/abi.h"
#include "vmm/cli/client.h"
#include "vmm/cli/command.h"
#include "vmm/cmd/commands.h"
#include "vmm/cli/size.h"

struct vm_args {
	char **names;
	int n;
	bool all;
};

static error_t parse_names(int key, char *arg, struct argp_state *state)
{
	struct vm_args *a = state->input;

	switch (key) {
	case 'a':
		a->all = true;
		return 0;
	case ARGP_KEY_ARGS:
		a->names = state->argv + state->next;
		a->n = state->argc - state->next;
		return 0;
	case ARGP_KEY_NO_ARGS:
		argp_error(state, "which VM?");
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

static int for_each(const struct vm_args *a, const char *op)
{
	int status = EXIT_OK;

	for (int i = 0; i < a->n; i++) {
		json_t *reply = client_ask(
			a->names[i], json_pack("{s:s, s:s}", "op", op, "vm", a->names[i]));

		if (!reply)
			status = EXIT_TROUBLE;
		json_decref(reply);
	}
	return status;
}

static int simple(int argc, char **argv, const char *op, const char *doc)
{
	const struct argp argp = { .parser = parse_names, .args_doc = "NAME...", .doc = doc };
	struct vm_args a = { 0 };

	command_parse(&argp, argc, argv, &a);
	return for_each(&a, op);
}

int cmd_pause(int argc, char **argv)
{
	return simple(argc, argv, "pause",
		"Stops the vCPUs of VMs until 'ramet resume'. A paused VM can be forked (its "
		"clones are "
		"paused), dumped, stopped.\v"
		"Example:\n  ramet pause web && ramet dump web --gpa 0 --size 64M > mem; ramet "
		"resume web");
}

int cmd_resume(int argc, char **argv)
{
	return simple(argc, argv, "resume",
		"Lets paused VMs continue.\vExample:\n  ramet resume web web.1");
}

int cmd_reset(int argc, char **argv)
{
	return simple(argc, argv, "reset",
		"Puts clones back to the moment of their birth: memory, vCPUs and devices. All "
		"their later work is lost. The time is proportional to the memory that they have "
		"written.\v"
		"Example:\n  ramet fork web && ramet reset web.1");
}

static int stop_all(const struct vm_args *a)
{
	int status = EXIT_OK;

	for (int i = 0; i < a->n; i++) {
		struct client c;
		json_t *reply, *end;

		if (client_open(&c, a->names[i])) {
			status = EXIT_TROUBLE;
			continue;
		}
		reply = client_call(&c, json_pack("{s:s}", "op", "stop-all"));
		/* The process closes the connection when nothing is left of the family. */
		if (!reply)
			status = EXIT_TROUBLE;
		else if (!wire_recv(&c.wire, WIRE_REPLY_MAX, &end))
			json_decref(end);
		json_decref(reply);
		client_close(&c);
	}
	return status;
}

int cmd_stop(int argc, char **argv)
{
	static const struct argp_option options[] = {
		{ "all", 'a', NULL, 0, "Stop whole families, named by any of their VMs", 0 },
		{ 0 },
	};
	static const struct argp argp = {
		options,
		parse_names,
		"NAME...",
		"Stops VMs for ever and frees what only they had. Their clones and parents keep "
		"running; the family's process ends with its last VM. A VM that has failed, or "
		"whose guest ended it with a status other than 0, is listed until it is stopped.\v"
		"Examples:\n  ramet stop web.1 web.2\n  ramet stop --all web",
		NULL,
		NULL,
		NULL,
	};
	struct vm_args a = { 0 };

	command_parse(&argp, argc, argv, &a);
	return a.all ? stop_all(&a) : for_each(&a, "stop");
}

#define TIMEOUT_MS_MAX 1000000000u

struct wait_args {
	const char *name, *event;
	uint64_t value, timeout_ms;
	bool timed;
};

static error_t parse_wait(int key, char *arg, struct argp_state *state)
{
	struct wait_args *a = state->input;

	switch (key) {
	case 'p':
		if (strcmp(arg, "ready"))
			argp_error(state,
				"--phase: there is no phase '%s' to wait for; take 'ready'", arg);
		a->event = "phase";
		a->value = RAMET_PHASE_READY;
		return 0;
	case 's':
		a->event = "stopped";
		return 0;
	case 'r':
		a->event = "ready";
		return 0;
	case 'b':
		a->event = "heartbeats";
		a->value = opt_number(state, "--heartbeats", arg, 1, INT64_MAX);
		return 0;
	case 't':
		a->timed = true;
		if (seconds_parse(arg, TIMEOUT_MS_MAX, &a->timeout_ms))
			argp_error(state,
				"--timeout: '%s' is no number of seconds from 0 to 1000000; write "
				"it like "
				"30 or 0.5",
				arg);
		return 0;
	}
	return arg_vm(key, arg, state, &a->name);
}

int cmd_wait(int argc, char **argv)
{
	static const struct argp_option options[] = {
		{ "phase", 'p', "PHASE", 0,
			"Until the guest reports that its set-up is done: ready (the default)", 0 },
		{ "running", 'r', NULL, 0, "Until the VM is first seen to run", 0 },
		{ "stopped", 's', NULL, 0, "Until the VM has stopped", 0 },
		{ "heartbeats", 'b', "N", 0, "Until the guest has sent N heartbeats", 0 },
		{ "timeout", 't', "SECONDS", 0,
			"Give up after this time, such as 30 or 0.5 (exit status 1)", 0 },
		{ 0 },
	};
	static const struct argp argp = {
		options,
		parse_wait,
		"NAME",
		"Waits until a VM has reached a state.\n\n"
		"Built-in guests report by themselves that they are ready. In a Linux guest, run "
		"'devmem 0xd000000c 32 1' as root when its set-up is done. Without that, --phase "
		"waits until the VM stops. --running works with any guest.\v"
		"Examples:\n  ramet wait web --phase ready --timeout 30\n  ramet wait web.1 "
		"--stopped",
		NULL,
		NULL,
		NULL,
	};
	struct wait_args a = { .event = "phase", .value = RAMET_PHASE_READY };
	json_t *reply;

	command_parse(&argp, argc, argv, &a);
	reply = client_ask(
		a.name, json_pack("{s:s, s:s, s:s, s:I, s:I}", "op", "wait", "vm", a.name, "event",
				a.event, "value", (json_int_t)a.value, "timeout_ms",
				a.timed ? (json_int_t)a.timeout_ms : (json_int_t)-1));
	json_decref(reply);
	return reply ? EXIT_OK : EXIT_TROUBLE;
}
