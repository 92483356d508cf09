/* SPDX-License-Identifier: Apache-2.0 */
/* The settler: a thread that settles deferred generations, and frees those that nobody needs. */
#ifndef RAMET_VMM_FORK_SETTLER_H
#define RAMET_VMM_FORK_SETTLER_H

#include "vmm/fork/generation.h"

struct settler {
	pthread_t thread;
	/* Whether nobody else is about to give memory back; and how many were ever asked to. */
	bool (*others_idle)(void *others, unsigned *queued);
	void *others;

	pthread_mutex_t lock; /* guards all below */
	pthread_cond_t cond, idle;
	struct generation *settle, **settle_tail; /* oldest first: the newer ones build on it */
	unsigned n_settle;			  /* in that queue */
	unsigned n_reserved;			  /* places in it, for forks that are under way */
	struct generation *dead;
	unsigned draining;
	unsigned drains; /* ever begun */
	bool quit, busy;
	bool stuck; /* the oldest could not be settled, for want of memory */
};

/* 0 or -errno. */
int settler_start(struct settler *w, struct generations *set,
	bool (*others_idle)(void *others, unsigned *queued), void *others);
void settler_stop(struct settler *w);
/* Settles g some time; nothing to do for one that is freed before. Takes the place that has been
 * reserved for it. */
void settler_settle(struct settler *w, struct generation *g);
/* Memory has been given back: what could not be settled for want of it is worth another attempt. */
void settler_retry(struct settler *w);
/* Reserves a place among the unsettled generations, for one that settler_settle() gets or
 * settler_unreserve() gives up. False: there are as many as reads can go through without getting
 * slow. */
bool settler_reserve(struct settler *w);
void settler_unreserve(struct settler *w);
/* Waits until there is a place. The caller holds no lock of a VM. -ENOMEM: no generation can be
 * settled now. */
int settler_await_room(struct settler *w);
/* Waits until it has nothing left to do. -ENOMEM: what is left cannot be done now. */
int settler_drain(struct settler *w);

#endif
