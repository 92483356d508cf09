/* SPDX-License-Identifier: Apache-2.0 */
/* ramet dump: writes guest memory to stdout. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/io.h"
#include "vmm/cli/client.h"
#include "vmm/cli/command.h"
#include "vmm/cmd/commands.h"
#include "vmm/cli/size.h"

struct dump_args {
	const char *name;
	uint64_t gpa, size;
};

static error_t parse_dump(int key, char *arg, struct argp_state *state)
{
	struct dump_args *a = state->input;

	switch (key) {
	case 'g':
		if (gpa_parse(arg, &a->gpa) || a->gpa > INT64_MAX)
			argp_error(state,
				"--gpa: '%s' is not an address; write it like 0x100000 or 1M", arg);
		return 0;
	case 's':
		a->size = opt_size(state, "--size", arg, 1, RAMET_MEMORY_MAX);
		return 0;
	case ARGP_KEY_SUCCESS:
		if (!a->size)
			argp_error(state, "how much? Give --size");
		return 0;
	}
	return arg_vm(key, arg, state, &a->name);
}

static int write_out(const char *buf, size_t len)
{
	int r = io_write(STDOUT_FILENO, buf, len);

	return r ? complain("writing to stdout: %s", strerror(-r)) : EXIT_OK;
}

/* Writes zeros, as a hole if stdout is a file. */
static int write_zeros(char *buf, size_t len, bool sparse)
{
	if (sparse && lseek(STDOUT_FILENO, (off_t)len, SEEK_CUR) >= 0)
		return EXIT_OK;
	memset(buf, 0, len);
	return write_out(buf, len);
}

static int dump(struct client *c, const struct dump_args *a, char *buf)
{
	struct stat st;
	bool sparse = !fstat(STDOUT_FILENO, &st) && S_ISREG(st.st_mode);
	int status = EXIT_OK;

	for (uint64_t done = 0; done < a->size && !status;) {
		uint64_t left = a->size - done;
		size_t len = left < WIRE_CHUNK_MAX ? (size_t)left : WIRE_CHUNK_MAX;
		json_t *reply = client_call(
			c, json_pack("{s:s, s:s, s:I, s:I}", "op", "read", "vm", a->name, "gpa",
				   (json_int_t)(a->gpa + done), "size", (json_int_t)len));

		if (!reply)
			return EXIT_TROUBLE;
		if (json_is_true(json_object_get(reply, "zero")))
			status = write_zeros(buf, len, sparse);
		else if (wire_recv_raw(&c->wire, buf, len))
			status = complain(
				"the process of family '%s' ended before all memory was read",
				c->family);
		else
			status = write_out(buf, len);
		json_decref(reply);
		done += len;
	}
	/* A hole at the end does not extend the file by itself. */
	if (!status && sparse && ftruncate(STDOUT_FILENO, lseek(STDOUT_FILENO, 0, SEEK_CUR)))
		status = complain("writing to stdout: %s", strerror(errno));
	return status;
}

int cmd_dump(int argc, char **argv)
{
	static const struct argp_option options[] = {
		{ "gpa", 'g', "ADDRESS", 0, "Guest-physical address to start at (0)", 0 },
		{ "size", 's', "SIZE", 0, "Amount of memory to write", 0 },
		{ 0 },
	};
	static const struct argp argp = {
		options,
		parse_dump,
		"NAME",
		"Writes guest memory to stdout as the guest sees it. A running guest may change "
		"its memory meanwhile: pause the VM to get a consistent result.\v"
		"Example:\n  ramet dump web --gpa 0x100000 --size 64K | xxd | head",
		NULL,
		NULL,
		NULL,
	};
	struct dump_args a = { 0 };
	struct client c;
	char *buf;
	int status;

	command_parse(&argp, argc, argv, &a);
	if (isatty(STDOUT_FILENO))
		return complain(
			"will not write guest memory to a terminal; redirect it to a file or pipe");
	buf = malloc(WIRE_CHUNK_MAX);
	if (!buf)
		return complain("out of memory");
	status = client_open(&c, a.name);
	if (!status) {
		status = dump(&c, &a, buf);
		client_close(&c);
	}
	free(buf);
	return status;
}
