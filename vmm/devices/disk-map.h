/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The map of a disk: which block of the overlay file each cluster is in. For disk.c only. The
 * caller holds the base's lock, except for map_check().
 */
#ifndef RAMET_VMM_DEVICES_DISK_MAP_H
#define RAMET_VMM_DEVICES_DISK_MAP_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/lock.h"

#define MAP_CLUSTER 4096u /* bytes of a cluster, and of a block */

/* The number of a block of the overlay file; 0: no block. */
typedef uint32_t block_t;

struct node;

struct disk_base {
	uint64_t size;
	bool readonly;
	int fd, overlay;
	struct lock lock; /* guards all below, and the nodes */
	unsigned disks;
	uint32_t *refs; /* references to each block; [0] is unused */
	block_t *free;	/* a stack of the blocks below `end` that no slot names */
	uint32_t n_free, end, room;
};

struct disk {
	struct disk_base *base;
	struct node *root; /* NULL: nothing has been written */
};

/* Takes a free block and gives it one reference. 0, -ENOSPC or -ENOMEM. */
int block_get(struct disk_base *b, block_t *out);
/* Drops a reference to a block. Does nothing if block is 0. */
void block_put(struct disk_base *b, block_t block);

/* The block of a cluster. 0: the cluster is in the base file. */
block_t map_lookup(const struct disk *disk, uint64_t cluster);
/* Finds the slot of a cluster in a leaf that only this disk has, and makes such a leaf if needed.
 * Other disks do not share the slot until this disk is cloned. 0 or -ENOMEM. */
int map_own_slot(struct disk *disk, uint64_t cluster, block_t **slot);
/* Takes a reference to the map, for a copy of the disk. */
void map_share(struct disk *disk);
/* Drops the disk's reference to the map. The disk has no map after that. */
void map_drop(struct disk *disk);
/* See disk_check(). Takes the lock. */
int map_check(struct disk *const *disks, unsigned n);

#endif
