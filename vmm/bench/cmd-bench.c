/* SPDX-License-Identifier: Apache-2.0 */
/* ramet bench: a table of benchmarks. */
#include <stdio.h>
#include <string.h>

#include "vmm/cli/command.h"
#include "vmm/bench/benches.h"

static const struct command benches[] = {
	{ "clone", cmd_bench_clone, "forks of a VM, compared with fork(2) and a copy", false },
	{ "reset", cmd_bench_reset, "putting a clone back to its birth", false },
	{ "recover", cmd_bench_recover, "how fast parent and child write again after a fork",
		false },
	{ "churn", cmd_bench_churn, "making and stopping clones again and again", false },
	{ "burst", cmd_bench_burst, "one fork into a thousand running clones, and their end",
		false },
	{ "tables", cmd_bench_tables, "the table library alone, at each level of sharing", false },
	{ 0 },
};

int cmd_bench(int argc, char **argv)
{
	bool help = argc > 1 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"));

	if (argc > 1 && !help)
		return command_run(benches, "ramet bench", argc, argv);
	puts("Usage: ramet bench WHAT [OPTION...]\n"
	     "Measures, and prints a table, JSON, CSV or a plot.\n");
	command_list(benches);
	puts("\n'ramet bench WHAT --help' explains one.");
	return argc > 1 ? EXIT_OK : EXIT_USAGE;
}
