/* SPDX-License-Identifier: Apache-2.0 */
/* The program: a table of commands. */
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/bench/benches.h"
#include "vmm/cli/command.h"
#include "vmm/cmd/commands.h"

static const struct command commands[] = {
	{ "run", cmd_run, "launch a VM", false },
	{ "fork", cmd_fork, "fork a running VM", true },
	{ "list", cmd_list, "draw all VMs as a tree of forks", true },
	{ "stat", cmd_stat, "show one VM in full", true },
	{ "console", cmd_console, "attach to a VM's serial console", false },
	{ "pause", cmd_pause, "stop VMs' vCPUs for now", true },
	{ "resume", cmd_resume, "let paused VMs continue", true },
	{ "stop", cmd_stop, "stop VMs for ever", true },
	{ "reset", cmd_reset, "put clones back to the moment they were born", true },
	{ "wait", cmd_wait, "wait until a VM is ready, has stopped, ...", true },
	{ "dump", cmd_dump, "write guest memory to stdout", false },
	{ "bench", cmd_bench, "measure what forks cost", false },
	{ 0 },
};

static int help(void)
{
	puts("Usage: ramet COMMAND [OPTION...]\n"
	     "A small KVM monitor that forks running virtual machines in microseconds.\n");
	command_list(commands);
	puts("\n'ramet help COMMAND' (or 'ramet COMMAND --help') explains one, with examples.\n"
	     "Start with:\n"
	     "  ramet run --name web --memory 1G --guest dirty --detach\n"
	     "  ramet fork web --count 3\n"
	     "  ramet list\n"
	     "  ramet stop --all web");
	return EXIT_OK;
}

/* "ramet help bench clone" is "ramet bench clone --help". */
static int help_on(int argc, char **argv)
{
	char *as[] = { argv[0], argv[2], argc > 3 ? argv[3] : (char *)"--help", (char *)"--help",
		NULL };
	bool nested = argc == 4 && !strcmp(argv[2], "bench");

	if (argc > 3 && !nested) {
		fprintf(stderr, "ramet: help on one command at a time; see 'ramet --help'\n");
		return EXIT_USAGE;
	}
	if (!nested)
		as[3] = NULL;
	return command_run(commands, "ramet", nested ? 4 : 3, as);
}

/*
 * Called at every exit: output that could not be written is a failure. If the reader of the output
 * is gone, SIGPIPE has ended the program before, so only other errors are handled here.
 */
static void close_stdout(void)
{
	bool failed = ferror(stdout);
	int error = 0;

	if (fclose(stdout)) {
		failed = true;
		error = errno;
	}
	if (failed) {
		complain("writing to stdout: %s", error ? strerror(error) : "it failed");
		_exit(EXIT_TROUBLE);
	}
}

/*
 * If the caller has closed descriptor 0, 1 or 2, the next open() would return that number, and that
 * file would be used as the terminal. So open /dev/null there, in a mode in which reads (0) or
 * writes (1, 2) fail as on a closed descriptor.
 */
static void open_standard_fds(void)
{
	for (int fd = 0; fd < 3; fd++)
		if (fcntl(fd, F_GETFD) < 0)
			open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
}

int main(int argc, char **argv)
{
	open_standard_fds();
	signal(SIGXFSZ, SIG_IGN); /* make write(2) fail if a file may not grow */
	atexit(close_stdout);
	setlocale(LC_CTYPE, "");
	argp_program_version = "ramet " RAMET_VERSION;
	if (argc < 2) {
		fputs("ramet: which command? See 'ramet --help'\n", stderr);
		return EXIT_USAGE;
	}
	if (!strcmp(argv[1], "--version") || !strcmp(argv[1], "-V")) {
		puts(argp_program_version);
		return EXIT_OK;
	}
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") ||
		(!strcmp(argv[1], "help") && argc == 2))
		return help();
	if (!strcmp(argv[1], "help"))
		return help_on(argc, argv);
	return command_run(commands, "ramet", argc, argv);
}
