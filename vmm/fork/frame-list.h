/* SPDX-License-Identifier: Apache-2.0 */
/* The memory of a generation as a list of runs of frames: the mappings that a view starts with. */
#ifndef RAMET_VMM_FORK_FRAME_LIST_H
#define RAMET_VMM_FORK_FRAME_LIST_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

#include "vmm/memory/memory.h"

struct frame_list {
	atomic_uint refs;
	uint64_t key; /* of the generation: its id + 1. No two generations have the same */
	unsigned n;
	bool whole; /* the list has all of RAM; otherwise the rest stays ABSENT in a view */
	struct frame_run run[];
};

/* The list needs no reference to its generation: it names frames only by their place in the pool's
 * file. l may be NULL. */
static inline struct frame_list *frame_list_get(struct frame_list *l)
{
	if (l)
		atomic_fetch_add_explicit(&l->refs, 1, memory_order_relaxed);
	return l;
}

static inline void frame_list_put(struct frame_list *l)
{
	if (l && atomic_fetch_sub(&l->refs, 1) == 1)
		free(l);
}

#endif
