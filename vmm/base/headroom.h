/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Headroom: how much more memory this process may have before the kernel kills somebody for it. It
 * is the least of what is left to its memory control group (version 1 or 2), to each group around
 * that one, and to the host. What the kernel gives up without harm counts as left: files it caches,
 * and what may still be swapped out.
 */
#ifndef RAMET_VMM_BASE_HEADROOM_H
#define RAMET_VMM_BASE_HEADROOM_H

#include <stdbool.h>
#include <stdint.h>

#include "include/ramet/ramet.h"

#define HEADROOM_GROUPS_MAX 16u

struct headroom_group {
	int dir;
	char name[48]; /* the end of it, when it is long */
};

struct headroom {
	int meminfo;
	bool v1;
	unsigned n;
	struct headroom_group group[HEADROOM_GROUPS_MAX];
};

/* Bytes; where: "the host" or "the control group '...'". left is UINT64_MAX if nothing is known. */
struct headroom_left {
	uint64_t left, limit;
	char where[RAMET_HEADROOM_OF_MAX];
};

/* root stands for "/" ("" is the real one). What is not there, or cannot be read, sets no limit. */
void headroom_open(struct headroom *h, const char *root);
void headroom_close(struct headroom *h);

/* Reads the limits anew: they may be changed while we run. Any thread. */
void headroom_look(const struct headroom *h, struct headroom_left *out);

#endif
