/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/command.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>

#include "vmm/size.h"

const struct command *command_find(const struct command *table, const char *name)
{
	for (; table->name; table++)
		if (!strcmp(table->name, name))
			return table;
	return NULL;
}

int command_run(const struct command *table, const char *prog, int argc, char **argv)
{
	const struct command *cmd = command_find(table, argv[1]);
	char name[64];

	if (!cmd) {
		fprintf(stderr, "%s: there is no %s '%s'; see '%s --help'\n", prog,
			argv[1][0] == '-' ? "option" : "command", argv[1], prog);
		return EXIT_USAGE;
	}
	/* argp starts its messages with argv[0]. */
	snprintf(name, sizeof(name), "%s %s", prog, cmd->name);
	argv[1] = name;
	argp_err_exit_status = EXIT_USAGE;
	return cmd->run(argc - 1, argv + 1);
}

void command_list(const struct command *table)
{
	for (; table->name; table++)
		printf("  %-9s %s\n", table->name, table->summary);
}

int complain(const char *fmt, ...)
{
	va_list ap;

	fputs("ramet: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	return EXIT_TROUBLE;
}

void raise_fd_limit(void)
{
	struct rlimit l;

	if (!getrlimit(RLIMIT_NOFILE, &l)) {
		l.rlim_cur = l.rlim_max;
		setrlimit(RLIMIT_NOFILE, &l);
	}
}

uint64_t opt_size(
	struct argp_state *state, const char *what, const char *arg, uint64_t min, uint64_t max)
{
	char lo[SIZE_TEXT], hi[SIZE_TEXT];
	uint64_t v = 0;
	int err = size_parse(arg, &v);

	if (err == -EINVAL)
		argp_error(state, "%s: '%s' is not a size; write it like 64M or 2G", what, arg);
	if (err || v < min || v > max)
		argp_error(state, "%s: %s is out of range; take %s to %s", what, arg,
			size_format(min, lo), size_format(max, hi));
	return v;
}

uint64_t opt_number(
	struct argp_state *state, const char *what, const char *arg, uint64_t min, uint64_t max)
{
	uint64_t v = 0;
	int err = number_parse(arg, min, max, &v);

	if (err == -EINVAL)
		argp_error(state, "%s: '%s' is not a number", what, arg);
	if (err)
		argp_error(state, "%s: %s is out of range; take %" PRIu64 " to %" PRIu64, what, arg,
			min, max);
	return v;
}

error_t arg_vm(int key, char *arg, struct argp_state *state, const char **name)
{
	switch (key) {
	case ARGP_KEY_ARG:
		if (*name)
			argp_error(state, "one VM at a time");
		*name = arg;
		return 0;
	case ARGP_KEY_NO_ARGS:
		argp_error(state, "which VM?");
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

int ending_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	return signalfd(-1, &set, SFD_CLOEXEC);
}
