/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The memory of a family: one pool of frames in one memfd, and the second-level tables that say
 * which frame is where in which address space. Only memory.c and span.c use mmu/ in the monitor.
 *
 * RAM offsets are those of view.h. Any thread may make any call.
 */
#ifndef RAMET_VMM_MEMORY_MEMORY_H
#define RAMET_VMM_MEMORY_MEMORY_H

#include <stdbool.h>
#include <stdint.h>

#include "include/ramet/mmu.h"
#include "include/ramet/pool.h"
#include "vmm/base/err.h"
#include "vmm/base/lock.h"
#include "vmm/base/ram.h"
#include "vmm/memory/view.h"

#define MEMORY_IDLE_MAX 2048u

struct memory {
	const struct ram_layout *ram;
	int fd;		  /* the pool's file: frame n is bytes [4096 n, 4096 (n + 1)) */
	struct lock lock; /* guards all below: tables are changed by one thread at a time */
	struct pool pool;
	void *pool_counts;
	/* Runs of frames without references, which memory.c:unlock_and_trim() frees. */
	struct {
		frame_t first;
		uint64_t n;
	} idle[MEMORY_IDLE_MAX];
	unsigned n_idle;
	struct mmu mmu;
	_Atomic int64_t granted; /* see memory_grant() */
	atomic_bool sparing;	 /* see memory_spare() */
	atomic_bool ending;	 /* see memory_end() */
	/* Tables and their descriptors: sparse arrays; table i has "physical address" i * 4096. */
	_Atomic uint64_t (*table)[MMU_SLOTS];
	struct mmu_table *descriptor;
	uint32_t *free_table; /* a stack */
	uint32_t n_free, top, max_tables;
};

/* The attributes that all RAM is mapped with. */
extern const struct mmu_attr memory_ram_attr;

/* Makes a pool of at most max_bytes (0: as much as the host could ever hold). */
int memory_init(struct memory *m, const struct ram_layout *ram, uint64_t max_bytes);
/* memory_destroy() will follow. From now on free frames keep their memory: to give it back run by
 * run takes time for each view that maps it. */
void memory_end(struct memory *m);
void memory_destroy(struct memory *m);

/* Makes an address space of new frames for all RAM: one run from *frame on, which reads as zero. 0
 * or -ENOMEM. */
int memory_new_root(struct memory *m, struct mmu_root **root, frame_t *frame);
/* Makes an address space that shares every PTE table with src. */
int memory_fork_root(struct memory *m, struct mmu_root *src, struct mmu_root **root);
void memory_put_root(struct memory *m, struct mmu_root *root);
/* While this is on, no free frame keeps its memory. */
void memory_spare(struct memory *m, bool on);
/* Allows this many bytes of the host's memory to be used until the next grant. Before the first
 * grant there is no limit. Storing a span is charged to the grant. */
void memory_grant(struct memory *m, uint64_t bytes);
/* Charges something else to the grant. False: not enough of it is left. */
bool memory_charge(struct memory *m, uint64_t bytes);
/* Takes a charge back for memory that was not needed after all. */
void memory_refund(struct memory *m, uint64_t bytes);
/* Gives the memory of frames without references back to the host. Takes a while. */
void memory_trim(struct memory *m);

/* Recomputes the counts of all tables and frames, and compares them. root[] must have all roots. */
int memory_check(struct memory *m, struct mmu_root **root, unsigned n, struct ramet_err *err);

/* Reads n_pages pages from frame on into buf. */
int memory_read_frames(struct memory *m, frame_t frame, uint64_t n_pages, void *buf);

/* Counts the bytes of tables that only this root has, and the number of tables that it shares. */
void memory_root_stat(struct memory *m, struct mmu_root *root, uint64_t *bytes, uint64_t *shared);
/* Fills in the figures of the pool and of the tables. */
void memory_stat(struct memory *m, struct ramet_family_stat *st);

#endif
