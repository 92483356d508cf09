/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RAMET_VMM_BENCH_CLONE_H
#define RAMET_VMM_BENCH_CLONE_H

#include "include/ramet/ramet.h"
#include "vmm/bench/bench.h"

#define BENCH_LIST_MAX 16
#define DIRTY_ALL      UINT64_MAX /* as much as the guest can */

enum clone_mode {
	MODE_TEMPLATE, /* fork of a VM that has written next to nothing since its last fork */
	MODE_LIVE,     /* fork of a clone that has dirtied that much since its last fork */
	MODES
};

/* One combination, and what was measured. */
struct clone_result {
	unsigned memory_index, dirty_index; /* in the lists asked for */
	uint64_t memory, dirty;
	/* NULL: the guest `dirty`. Else kernel, initrd, args, disks; `dirty` is found out then:
	 * what that guest has touched when it is ready. */
	const struct ramet_config *guest;
	enum clone_mode mode;
	unsigned cpus, clones;
	struct series pause, ready, parent_ready, cold, base[BASELINE_KINDS];
	struct series private; /* bytes a clone has of its own when it is ready */
	uint64_t tables_before, tables_after, tables_classic;
	struct clone_result *next;
};

/* Fills r in, whose request is set. EXIT_OK, or EXIT_TROUBLE after saying why. */
int clone_measure(struct clone_result *r, unsigned reps);
void clone_results_free(struct clone_result *list);

void clone_print_table(struct clone_result *results);
json_t *clone_json(struct clone_result *results);
int clone_write_csv(struct clone_result *results, const char *file);
int clone_plot(struct clone_result *results, const char *file);

#endif
