/* SPDX-License-Identifier: Apache-2.0 */
/* ramet console: attach to a VM's serial console. */
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "vmm/cli/command.h"
#include "vmm/cmd/commands.h"
#include "vmm/cli/console-relay.h"

static error_t parse_console(int key, char *arg, struct argp_state *state)
{
	return arg_vm(key, arg, state, state->input);
}

int cmd_console(int argc, char **argv)
{
	static const struct argp argp = {
		NULL,
		parse_console,
		"NAME",
		"Attaches to the serial console of a VM: prints the last 64 KiB of output, then "
		"all further output until the VM stops. Keys go to the guest, also Ctrl-C and "
		"Ctrl-Z. Ctrl-] detaches and leaves the VM running. Several terminals may attach "
		"to one VM.\v"
		"If the reader of its output is gone, the command ends as if by SIGPIPE (exit "
		"status 141); the VM keeps running.\n\n"
		"Examples:\n  ramet console web.1\n  ramet console web < /dev/null | grep -m1 "
		"ready",
		NULL,
		NULL,
		NULL,
	};
	const char *name = NULL;
	struct client c;
	enum relay_end end;
	json_t *reply;
	int wake, err, status;

	command_parse(&argp, argc, argv, &name);
	if (client_open(&c, name))
		return EXIT_TROUBLE;
	reply = client_call(&c, json_pack("{s:s, s:s}", "op", "console", "vm", name));
	if (!reply) {
		client_close(&c);
		return EXIT_TROUBLE;
	}
	json_decref(reply);
	wake = ending_signals(); /* a terminal must not be left raw */
	end = console_relay(&c, wake, RELAY_KEYS_ESCAPE);
	err = errno;
	if (isatty(STDIN_FILENO))
		fprintf(stderr, "\r\n[%s %s]\r\n", name,
			end == RELAY_STOPPED ? "has stopped" : "goes on running");
	status = end == RELAY_WOKEN	  ? 128 + ending_signal(wake)
		 : end == RELAY_NO_OUTPUT ? relay_no_output(err)
					  : EXIT_OK;
	close(wake);
	client_close(&c);
	return status;
}
