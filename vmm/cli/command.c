/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/base/priority.h"
#include "vmm/cli/command.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "vmm/cli/size.h"

const struct command *command_find(const struct command *table, const char *name)
{
	for (; table->name; table++)
		if (!strcmp(table->name, name))
			return table;
	return NULL;
}

/* Words that users may try instead of a command's name. */
static const struct {
	const char *word, *command;
	bool alias; /* the word works like the command's name */
} synonyms[] = {
	{ "ls", "list", true },
	{ "ps", "list", true },
	{ "status", "stat", false },
	{ "inspect", "stat", false },
	{ "kill", "stop", false },
	{ "rm", "stop", false },
	{ "clone", "fork", false },
	{ "launch", "run", false },
	{ "start", "run", false },
	{ "attach", "console", false },
	{ "logs", "console", false },
};

/* The number of letters to insert, delete or replace to get from a to b. */
static unsigned distance(const char *a, const char *b)
{
	unsigned row[32], la = (unsigned)strlen(a), lb = (unsigned)strlen(b);

	if (la >= 32 || lb >= 32)
		return 32;
	for (unsigned j = 0; j <= lb; j++)
		row[j] = j;
	for (unsigned i = 1; i <= la; i++) {
		unsigned diagonal = row[0];

		row[0] = i;
		for (unsigned j = 1; j <= lb; j++) {
			unsigned d = diagonal + (a[i - 1] != b[j - 1]);

			diagonal = row[j];
			d = d < row[j] + 1 ? d : row[j] + 1;
			row[j] = d < row[j - 1] + 1 ? d : row[j - 1] + 1;
		}
	}
	return row[lb];
}

/* Returns the name of the command that the user may have meant by `word`, or NULL. */
static const char *meant(const struct command *table, const char *word)
{
	unsigned best = strlen(word) < 4 ? 1 : 2;
	const char *name = NULL;

	for (unsigned i = 0; i < sizeof(synonyms) / sizeof(synonyms[0]); i++)
		if (!strcmp(synonyms[i].word, word) && command_find(table, synonyms[i].command))
			return synonyms[i].command;
	for (; table->name; table++)
		if (distance(word, table->name) <= best) {
			name = table->name;
			best = distance(word, name) - (distance(word, name) > 0);
		}
	return name;
}

static int no_command(const struct command *table, const char *prog, const char *word)
{
	const char *name = word[0] == '-' ? NULL : meant(table, word);

	fprintf(stderr, "%s: there is no %s '%s'", prog, word[0] == '-' ? "option" : "command",
		word);
	if (name)
		fprintf(stderr, "; did you mean '%s'?\n", name);
	else
		fprintf(stderr, "; see '%s --help'\n", prog);
	return EXIT_USAGE;
}

static const struct command *find_or_alias(const struct command *table, const char *name)
{
	for (unsigned i = 0; i < sizeof(synonyms) / sizeof(synonyms[0]); i++)
		if (synonyms[i].alias && !strcmp(synonyms[i].word, name))
			name = synonyms[i].command;
	return command_find(table, name);
}

int command_run(const struct command *table, const char *prog, int argc, char **argv)
{
	const struct command *cmd = find_or_alias(table, argv[1]);
	static char name[64]; /* static: argv[1] still points to it after the return */

	if (!cmd)
		return no_command(table, prog, argv[1]);
	/* argp starts its messages with argv[0]. */
	snprintf(name, sizeof(name), "%s %s", prog, cmd->name);
	argv[1] = name;
	argp_err_exit_status = EXIT_USAGE;
	if (cmd->hurried)
		hurry_for_good(HURRY_PRIORITY);
	return cmd->run(argc - 1, argv + 1);
}

/* Handles -h; argp itself has only -? and --help. */
static error_t parse_help(int key, char *arg, struct argp_state *state)
{
	if (key != 'h')
		return ARGP_ERR_UNKNOWN;
	argp_state_help(state, stdout, ARGP_HELP_STD_HELP);
	return 0;
}

void command_parse(const struct argp *argp, int argc, char **argv, void *input)
{
	static const struct argp_option options[] = {
		{ NULL, 'h', NULL, OPTION_HIDDEN, NULL, 0 },
		{ 0 },
	};
	static const struct argp help = { .options = options, .parser = parse_help };
	static const struct argp_child children[] = { { .argp = &help }, { 0 } };
	struct argp with_help = *argp;

	with_help.children = children;
	argp_parse(&with_help, argc, argv, 0, NULL, input);
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
	if ((err || v < min) && max == UINT64_MAX)
		argp_error(state, "%s: %s is out of range; take at least %s", what, arg,
			size_format(min, lo));
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

int ending_signal(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	struct signalfd_siginfo si;

	if (poll(&p, 1, 0) > 0 && read(fd, &si, sizeof(si)) == sizeof(si))
		return (int)si.ssi_signo;
	return 0;
}
