/* SPDX-License-Identifier: Apache-2.0 */
/* The settler: a thread that settles generations, and frees those that nothing refers to. */
#ifndef RAMET_VMM_FORK_SETTLER_H
#define RAMET_VMM_FORK_SETTLER_H

#include "vmm/base/lock.h"
#include "vmm/base/newborns.h"
#include "vmm/fork/generation.h"

struct settler {
	pthread_t thread;
	/* Whether no other thread is about to give memory back. *queued: how many times such a
	 * thread has been given work. */
	bool (*others_idle)(void *others, unsigned *queued);
	void *others;
	const struct newborns
		*newborns; /* the settler waits for them, unless a thread waits for it */

	struct lock lock; /* guards all below */
	pthread_cond_t cond, idle;
	struct generation *settle, **settle_tail; /* oldest first: the newer ones build on it */
	unsigned n_settle;			  /* generations in that queue */
	unsigned n_reserved;			  /* places in the queue for forks under way */
	struct generation *dead;
	unsigned draining; /* calls of settler_drain() that wait */
	unsigned drains;   /* calls that were ever begun */
	bool quit, busy;
	bool stuck; /* the oldest generation could not be settled for lack of memory */
};

/* 0 or -errno. */
int settler_start(struct settler *w, struct generations *set, const struct newborns *newborns,
	bool (*others_idle)(void *others, unsigned *queued), void *others);
void settler_stop(struct settler *w);
/* Settles g later, unless it is freed before. Uses up a place that was reserved. */
void settler_settle(struct settler *w, struct generation *g);
/* Tells that memory has been given back: a generation that could not be settled is tried again. */
void settler_retry(struct settler *w);
/* Reserves a place among the unsettled generations. settler_settle() uses the place up, or
 * settler_unreserve() gives it back. False: all places are taken. Their number is limited because a
 * read of a span may have to go through all of these generations. */
bool settler_reserve(struct settler *w);
void settler_unreserve(struct settler *w);
/* Waits until there is a place. The caller holds no lock of a VM. 0, or -ENOMEM: no generation can
 * be settled now. */
int settler_await_room(struct settler *w);
/* Waits until the settler has nothing left to do. 0, or -ENOMEM: the rest cannot be done now. */
int settler_drain(struct settler *w);

#endif
