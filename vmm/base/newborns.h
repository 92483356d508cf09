/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Newborn VMs: those that a fork has let go and that have not been seen to run yet. Background work
 * of the family waits for them, since it would take CPUs and locks of the memory map from them.
 *
 * Some guests do nothing that ramet sees. So background work waits only for the length of a window,
 * which begins with a fork. After a window, background work has its turn: no other window begins
 * before NEWBORNS_REST_NS have passed, however many forks there are.
 */
#ifndef RAMET_VMM_BASE_NEWBORNS_H
#define RAMET_VMM_BASE_NEWBORNS_H

#include <stdatomic.h>
#include <stdbool.h>

#include "vmm/base/clock.h"

/* The length of a window: this, and more for each VM of its largest fork. */
#define NEWBORNS_NS	 2000000u
#define NEWBORN_EACH_NS	 1000000u
#define NEWBORNS_REST_NS 20000000u
/* Background work looks again after this time. */
#define NEWBORNS_LOOK_NS 1000000u

struct newborns {
	atomic_uint n;
	_Atomic uint64_t begin_ns, until_ns; /* the window */
};

/* A fork will let n VMs go. Any thread. */
static inline void newborns_expect(struct newborns *b, unsigned n)
{
	uint64_t now = now_ns(), old = atomic_load(&b->until_ns), until;

	if (old && now >= old && now < old + NEWBORNS_REST_NS)
		return;
	if (now >= old)
		atomic_store(&b->begin_ns, now);
	until = atomic_load(&b->begin_ns) + NEWBORNS_NS + (uint64_t)n * NEWBORN_EACH_NS;
	while (old < until && !atomic_compare_exchange_weak(&b->until_ns, &old, until))
		;
}

/* One of them exists. It is taken off by newborns_less(). */
static inline void newborns_more(struct newborns *b)
{
	atomic_fetch_add(&b->n, 1);
}

static inline void newborns_less(struct newborns *b)
{
	atomic_fetch_sub(&b->n, 1);
}

/* Whether background work must wait. */
static inline bool newborns_first(const struct newborns *b)
{
	return atomic_load(&b->n) && now_ns() < atomic_load(&b->until_ns);
}

#endif
