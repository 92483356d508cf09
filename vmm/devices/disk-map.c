/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/devices/disk-map.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#define SLOTS  512u
#define LEVELS 3u /* 3: the root, 1: a leaf */

struct node {
	uint32_t refs;
	uint32_t seen; /* links that the checker has found */
	union {
		struct node *child[SLOTS];
		block_t block[SLOTS]; /* level 1 */
	};
};

static unsigned slot_of(uint64_t cluster, unsigned level)
{
	return (unsigned)(cluster >> (9 * (level - 1))) % SLOTS;
}

/* ---- blocks; the caller holds the lock ---- */

int block_get(struct disk_base *b, block_t *out)
{
	if (!b->n_free && b->end > UINT32_MAX / 2)
		return -ENOSPC; /* there are 8 TiB of blocks */
	if (!b->n_free && b->end >= b->room) {
		uint32_t room = b->room ? 2 * b->room : 1024;
		uint32_t *refs = realloc(b->refs, room * sizeof(*refs));
		block_t *list;

		if (!refs)
			return -ENOMEM;
		b->refs = refs;
		list = realloc(b->free, room * sizeof(*list));
		if (!list)
			return -ENOMEM;
		b->free = list;
		b->room = room;
	}
	*out = b->n_free ? b->free[--b->n_free] : b->end++;
	b->refs[*out] = 1;
	return 0;
}

void block_put(struct disk_base *b, block_t block)
{
	if (!block || --b->refs[block])
		return;
	b->free[b->n_free++] = block;
	/* If the file system cannot punch holes, the space stays used until the family ends. */
	fallocate(b->overlay, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		(off_t)block * MAP_CLUSTER, MAP_CLUSTER);
}

/* ---- nodes; the caller holds the lock ---- */

static void node_put(struct disk_base *b, struct node *node, unsigned level)
{
	if (!node || --node->refs)
		return;
	/* Backwards, so that block_get() will hand the freed blocks out in ascending order. */
	for (unsigned i = SLOTS; i--;) {
		if (level > 1)
			node_put(b, node->child[i], level - 1);
		else
			block_put(b, node->block[i]);
	}
	free(node);
}

/* Makes *link name a node that no other link names: a copy of the shared one, or an empty one. */
static int node_own(struct disk_base *b, struct node **link, unsigned level)
{
	struct node *old = *link, *node;

	if (old && old->refs == 1)
		return 0;
	node = calloc(1, sizeof(*node));
	if (!node)
		return -ENOMEM;
	if (old) {
		*node = *old;
		for (unsigned i = 0; i < SLOTS; i++) {
			if (level > 1 && node->child[i])
				node->child[i]->refs++;
			else if (level == 1 && node->block[i])
				b->refs[node->block[i]]++;
		}
		node_put(b, old, level);
	}
	node->refs = 1;
	node->seen = 0;
	*link = node;
	return 0;
}

/* For the checker: counts links in `seen`, and in blocks[] the slots that name a block. Goes
 * through each node once. */
static void count_links(struct node *node, unsigned level, uint32_t *blocks)
{
	if (!node || node->seen++)
		return;
	for (unsigned i = 0; i < SLOTS; i++) {
		if (level > 1)
			count_links(node->child[i], level - 1, blocks);
		else
			blocks[node->block[i]]++;
	}
}

/* Whether `seen` is equal to `refs` in all nodes. Clears `seen` for the next check. */
static bool links_right(struct node *node, unsigned level)
{
	bool right;

	if (!node || !node->seen)
		return true;
	right = node->seen == node->refs;
	node->seen = 0;
	for (unsigned i = 0; level > 1 && i < SLOTS; i++)
		right &= links_right(node->child[i], level - 1);
	return right;
}

int map_check(struct disk *const *disks, unsigned n)
{
	struct disk_base *b = disks[0]->base;
	uint32_t *blocks, used = 0;
	bool right = b->disks == n;

	lock_take(&b->lock);
	blocks = calloc(b->end, sizeof(*blocks));
	for (unsigned i = 0; blocks && i < n; i++)
		count_links(disks[i]->root, LEVELS, blocks);
	for (unsigned i = 0; blocks && i < n; i++)
		right &= links_right(disks[i]->root, LEVELS);
	for (block_t i = 1; blocks && i < b->end; i++) {
		right &= blocks[i] == b->refs[i];
		used += b->refs[i] > 0;
	}
	right &= used + b->n_free == b->end - 1;
	lock_release(&b->lock);
	free(blocks);
	return !blocks ? -ENOMEM : right ? 0 : -EUCLEAN;
}

block_t map_lookup(const struct disk *disk, uint64_t cluster)
{
	const struct node *node = disk->root;

	for (unsigned level = LEVELS; node && level > 1; level--)
		node = node->child[slot_of(cluster, level)];
	return node ? node->block[slot_of(cluster, 1)] : 0;
}

int map_own_slot(struct disk *disk, uint64_t cluster, block_t **slot)
{
	struct node **link = &disk->root;

	for (unsigned level = LEVELS;; level--) {
		int ret = node_own(disk->base, link, level);

		if (ret)
			return ret;
		if (level == 1)
			break;
		link = &(*link)->child[slot_of(cluster, level)];
	}
	*slot = &(*link)->block[slot_of(cluster, 1)];
	return 0;
}

void map_share(struct disk *disk)
{
	if (disk->root)
		disk->root->refs++;
}

void map_drop(struct disk *disk)
{
	node_put(disk->base, disk->root, LEVELS);
	disk->root = NULL;
}
