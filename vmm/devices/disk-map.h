/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The map of a disk: which block of the overlay file each cluster is in. For disk.c only. The
 * caller holds the base's lock, but for map_check().
 */
#ifndef RAMET_VMM_DEVICES_DISK_MAP_H
#define RAMET_VMM_DEVICES_DISK_MAP_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/lock.h"

#define MAP_CLUSTER 4096u /* bytes of a cluster, and of a block */

/* A block of the overlay file; 0 is none. */
typedef uint32_t block_t;

struct node;

struct disk_base {
	uint64_t size;
	bool readonly;
	int fd, overlay;
	struct lock lock; /* all below, and the nodes */
	unsigned disks;
	uint32_t *refs; /* of blocks; [0] is unused */
	block_t *free;	/* a stack of blocks below `end` that nobody names */
	uint32_t n_free, end, room;
};

struct disk {
	struct disk_base *base;
	struct node *root; /* or NULL: nothing written */
};

/* A block that nothing names yet, with one reference. 0, -ENOSPC or -ENOMEM. */
int block_get(struct disk_base *b, block_t *out);
/* One reference less; 0 is fine. */
void block_put(struct disk_base *b, block_t block);

/* The block of a cluster. */
block_t map_lookup(const struct disk *disk, uint64_t cluster);
/* The slot of a cluster in a leaf of the disk's own. The slot stays this disk's until the disk is
 * cloned or freed. 0 or -ENOMEM. */
int map_own_slot(struct disk *disk, uint64_t cluster, block_t **slot);
/* Another disk has the same map. */
void map_share(struct disk *disk);
/* The disk has no map any more. */
void map_drop(struct disk *disk);
/* See disk_check(). Takes the lock. */
int map_check(struct disk *const *disks, unsigned n);

#endif
