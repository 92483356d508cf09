/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RAMET_VMM_BENCH_CLONE_H
#define RAMET_VMM_BENCH_CLONE_H

#include "include/ramet/ramet.h"
#include "vmm/bench/bench.h"

#define BENCH_LIST_MAX 16
#define DIRTY_ALL      UINT64_MAX /* as much as the guest can dirty */

enum clone_mode {
	MODE_TEMPLATE, /* fork a VM that has written almost nothing since its last fork */
	MODE_LIVE,     /* fork a clone that has dirtied `dirty` bytes since its last fork */
	MODES
};

/* One combination and its measurements. */
struct clone_result {
	unsigned memory_index, dirty_index; /* positions in the lists of the options */
	uint64_t memory, dirty;
	/* NULL: the guest `dirty`. Otherwise kernel, initrd, args, disks. Then `dirty` is measured:
	 * the memory that this guest has touched when it is ready. */
	const struct ramet_config *guest;
	enum clone_mode mode;
	unsigned cpus, clones;
	struct series pause, ready, parent_ready, cold, base[BASELINE_KINDS];
	struct series private; /* bytes that only a clone has when it is ready */
	uint64_t tables_before, tables_after, tables_classic;
	struct clone_result *next;
};

/* Measures the combination that r names, and fills in the rest of r. EXIT_OK, or EXIT_TROUBLE: an
 * error, which has been printed. */
int clone_measure(struct clone_result *r, unsigned reps);
void clone_results_free(struct clone_result *list);

void clone_print_table(struct clone_result *results);
json_t *clone_json(struct clone_result *results);
int clone_write_csv(struct clone_result *results, const char *file);
int clone_plot(struct clone_result *results, const char *file);

#endif
