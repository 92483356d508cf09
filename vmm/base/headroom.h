/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Headroom: how much more memory this process can get before the kernel kills a process. The
 * process's memory control group (version 1 or 2), each enclosing group and the host have some
 * memory left; the headroom is the smallest of these amounts. Memory that the kernel can reclaim
 * without harm counts as left: cached files, and pages that can still be swapped out.
 */
#ifndef RAMET_VMM_BASE_HEADROOM_H
#define RAMET_VMM_BASE_HEADROOM_H

#include <stdbool.h>
#include <stdint.h>

#include "include/ramet/ramet.h"

#define HEADROOM_GROUPS_MAX 16u

struct headroom_group {
	int dir;
	char name[48]; /* of a long name only the end */
};

struct headroom {
	int meminfo;
	bool v1;
	unsigned n;
	struct headroom_group group[HEADROOM_GROUPS_MAX];
};

/* In bytes. where: "the host" or "the control group '...'". left: UINT64_MAX if it is unknown. */
struct headroom_left {
	uint64_t left, limit;
	char where[RAMET_HEADROOM_OF_MAX];
};

/* root: a directory to use instead of "/" ("" for the real one). A limit that is missing or cannot
 * be read is ignored. */
void headroom_open(struct headroom *h, const char *root);
void headroom_close(struct headroom *h);

/* Reads the limits again, since they may change at any time. Any thread may call it. */
void headroom_look(const struct headroom *h, struct headroom_left *out);

/* The memory that the kernel itself has for the process's control group, KVM's included; and how
 * much of it are second-level page tables of KVM (Linux 6.1). False: unknown, because the process
 * is in the root group, or the kernel is older than 5.18, or control groups are of version 1.
 */
bool headroom_kernel(const struct headroom *h, uint64_t *bytes, uint64_t *tables);

#endif
