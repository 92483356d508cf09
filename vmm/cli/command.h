/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Functions for all commands of the program. A command gets its own argv ("ramet fork" is argv[0])
 * and returns an exit status: 0, EXIT_TROUBLE after it has printed an error, or a guest's status.
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
	/* Asks a family something, or waits for it: runs at a real-time priority, if that is
	 * allowed, so that busy guests do not take the CPU from it. */
	bool hurried;
};

/* Returns the command of that name, or NULL. The table ends with a NULL name. */
const struct command *command_find(const struct command *table, const char *name);
/* Runs the table's command argv[1]; its argv[0] becomes "<prog> <command>". */
int command_run(const struct command *table, const char *prog, int argc, char **argv);
/* Calls argp_parse() for a command, and adds -h. argp must have no children. */
void command_parse(const struct argp *argp, int argc, char **argv, void *input);
void command_list(const struct command *table);

/* Prints "ramet: ..." on stderr. Returns EXIT_TROUBLE. */
int complain(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Raises the limit for descriptors: each clone needs several, and the default limit is small for
 * the sake of select(). */
void raise_fd_limit(void);

/* Parse an option's value. A bad value is bad usage: the function does not return. `what` names the
 * option. */
uint64_t opt_size(
	struct argp_state *state, const char *what, const char *arg, uint64_t min, uint64_t max);
uint64_t opt_number(
	struct argp_state *state, const char *what, const char *arg, uint64_t min, uint64_t max);
/* The last part of a parser whose command has one VM as its argument: stores the VM's name. Returns
 * ARGP_ERR_UNKNOWN for all other keys. */
error_t arg_vm(int key, char *arg, struct argp_state *state, const char **name);

/* Returns a signalfd of SIGINT, SIGTERM and SIGHUP, so that the process can end in an orderly way.
 * Blocks these signals, and ignores SIGPIPE. -1: errno. */
int ending_signals(void);
/* Returns the number of a signal that has come since then, or 0. Does not wait. */
int ending_signal(int fd);

#endif
