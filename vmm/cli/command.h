/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the commands of the program share. A command gets its own argv ("ramet fork" is argv[0])
 * and returns an exit status: 0, EXIT_TROUBLE after saying what went wrong, or a guest's own.
 * Bad usage exits with EXIT_USAGE from within argp.
 */
#ifndef RAMET_VMM_CLI_COMMAND_H
#define RAMET_VMM_CLI_COMMAND_H

#include <argp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { EXIT_OK = 0, EXIT_TROUBLE = 1, EXIT_USAGE = 2 };

struct command {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *summary;
};

/* The command of that name in a table that ends with a NULL name, or NULL. */
const struct command *command_find(const struct command *table, const char *name);
/* Runs table's command argv[1] with its argv[0] made "<prog> <command>". */
int command_run(const struct command *table, const char *prog, int argc, char **argv);
/* argp_parse() for a command, which then has -h as well. argp has no children of its own. */
void command_parse(const struct argp *argp, int argc, char **argv, void *input);
void command_list(const struct command *table);

/* "ramet: ..." on stderr. Returns EXIT_TROUBLE. */
int complain(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* A clone needs a handful of descriptors, and the default limit is made for select(). */
void raise_fd_limit(void);

/* Option values; a bad one is bad usage and does not return. `what` names the option. */
uint64_t opt_size(
	struct argp_state *state, const char *what, const char *arg, uint64_t min, uint64_t max);
uint64_t opt_number(
	struct argp_state *state, const char *what, const char *arg, uint64_t min, uint64_t max);
/* The end of a parser whose command takes one VM: keeps its name, ARGP_ERR_UNKNOWN for the rest. */
error_t arg_vm(int key, char *arg, struct argp_state *state, const char **name);

/* A signalfd of SIGINT, SIGTERM and SIGHUP, blocked from now on, for the process to end in an
 * orderly way; SIGPIPE is ignored. -1: errno. */
int ending_signals(void);
/* The number of a signal that has come since, or 0. Does not wait. */
int ending_signal(int fd);

#endif
