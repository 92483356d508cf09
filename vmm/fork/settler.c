// SPDX-License-Identifier: Apache-2.0
/*
 * One thread settles and frees, so that a generation is never freed while it is being settled. The
 * thread takes no lock of a VM, so that a thread that holds such a lock may wait for the settler.
 */
#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "vmm/fork/settler.h"
#include "vmm/base/futex.h"
#include "vmm/base/priority.h"
#include "vmm/fork/settle.h"

/* A generation is settled no earlier than this after its fork: new clones need the CPUs and the
 * memory map more, and if a child ends soon, most of the work need not be done. */
#define SETTLE_DELAY_NS 3000000u
/* When this many unsettled generations build on each other, the next fork waits for the oldest one.
 */
#define UNSETTLED_MAX 8u
/* While the parent of a fork takes spans back, look again after this time. */
#define LOOK_NS 50000000u
/* When there was no memory to resolve a span, try again after this time. */
#define RETRY_NS 50000000u

static bool full(const struct settler *w)
{
	return w->n_settle + w->n_reserved >= UNSETTLED_MAX;
}

static void drop_from_queue(struct settler *w, struct generation *g)
{
	for (struct generation **p = &w->settle; *p; p = &(*p)->next)
		if (*p == g) {
			*p = g->next;
			if (w->settle_tail == &g->next)
				w->settle_tail = p;
			w->n_settle--;
			pthread_cond_broadcast(&w->idle);
			return;
		}
}

/* Waits for work, at most for this time. */
static void wait_ns(struct settler *w, uint64_t ns)
{
	struct timespec until = timespec_of(now_ns() + ns);

	cond_wait_until(&w->cond, &w->lock, &until);
}

/* Settles the oldest generation, g. The caller holds the lock; it is dropped meanwhile. */
static void settle_one(struct settler *w, struct generation *g)
{
	bool hurry = w->n_settle > 1 || w->draining || full(w), idle;
	unsigned drains = w->drains, queued, queued_then;
	int r;

	idle = w->others_idle(w->others, &queued_then);
	lock_release(&w->lock);
	r = generation_settle(g, hurry);
	lock_take(&w->lock);
	if (r > 0) {
		w->stuck = false;
		g->settle_ns = now_ns() + LOOK_NS;
		return;
	}
	/* A generation that died meanwhile stays in the queue until step() frees it. */
	if (!r && atomic_load(&g->settled))
		drop_from_queue(w, g);
	/* An attempt only counts as stuck if no thread gave memory back, and no drain was
	 * requested, while it ran. While the checker drains, the reaper gives no memory back: the
	 * reaper waits for the checker, so the settler must not wait for the reaper. */
	idle = idle && w->others_idle(w->others, &queued) && queued == queued_then;
	w->stuck = r && (idle || w->draining) && !w->dead && w->drains == drains;
	if (w->stuck)
		pthread_cond_broadcast(&w->idle);
	if (r && !w->dead)
		wait_ns(w, RETRY_NS);
}

/* Frees one generation, settles one, or waits until one may be settled. The caller holds the lock;
 * it is dropped meanwhile. False: there is no generation to free or settle. */
static bool step(struct settler *w)
{
	struct generation *g = w->dead;
	uint64_t now = now_ns();

	if (g) {
		w->dead = g->next_dead;
		drop_from_queue(w, g);
		lock_release(&w->lock);
		generation_free(g);
		lock_take(&w->lock);
		w->stuck = false; /* freeing gave memory back */
		return true;
	}
	g = w->settle;
	if (!g)
		return false;
	if (full(w) || w->draining || w->quit)
		settle_one(w, g);
	else if (now < g->settle_ns)
		wait_ns(w, g->settle_ns - now);
	else if (newborns_first(w->newborns))
		wait_ns(w, NEWBORNS_LOOK_NS);
	else
		settle_one(w, g);
	return true;
}

static void *settler_thread(void *arg)
{
	struct settler *w = arg;

	hurry_for_good(BACKGROUND_PRIORITY);
	lock_take(&w->lock);
	for (;;) {
		w->busy = true;
		while (step(w))
			;
		w->busy = false;
		pthread_cond_broadcast(&w->idle);
		if (w->quit)
			break;
		cond_wait(&w->cond, &w->lock);
	}
	lock_release(&w->lock);
	return NULL;
}

/* Nothing refers to g any more. */
static void settler_free(void *arg, struct generation *g)
{
	struct settler *w = arg;

	lock_take(&w->lock);
	g->next_dead = w->dead;
	w->dead = g;
	pthread_cond_signal(&w->cond);
	lock_release(&w->lock);
}

int settler_start(struct settler *w, struct generations *set, const struct newborns *newborns,
	bool (*others_idle)(void *others, unsigned *queued), void *others)
{
	w->newborns = newborns;
	lock_init(&w->lock, LOCK_SETTLER);
	cond_init(&w->cond);
	pthread_cond_init(&w->idle, NULL);
	w->settle_tail = &w->settle;
	w->others_idle = others_idle;
	w->others = others;
	set->idle_arg = w;
	set->idle = settler_free;
	return -pthread_create(&w->thread, NULL, settler_thread, w);
}

void settler_stop(struct settler *w)
{
	lock_take(&w->lock);
	w->quit = true;
	pthread_cond_signal(&w->cond);
	lock_release(&w->lock);
	lock_may_wait_for(WAIT_END);
	pthread_join(w->thread, NULL);
	lock_destroy(&w->lock);
	pthread_cond_destroy(&w->cond);
	pthread_cond_destroy(&w->idle);
}

void settler_settle(struct settler *w, struct generation *g)
{
	lock_take(&w->lock);
	g->next = NULL;
	g->settle_ns = now_ns() + SETTLE_DELAY_NS;
	*w->settle_tail = g;
	w->settle_tail = &g->next;
	w->n_settle++;
	w->n_reserved--;
	pthread_cond_signal(&w->cond);
	lock_release(&w->lock);
}

void settler_retry(struct settler *w)
{
	lock_take(&w->lock);
	w->stuck = false;
	pthread_cond_signal(&w->cond);
	lock_release(&w->lock);
}

int settler_drain(struct settler *w)
{
	int r = 0;

	lock_may_wait_for(WAIT_SETTLED);
	lock_take(&w->lock);
	w->draining++;
	w->drains++;
	w->stuck = false;
	pthread_cond_signal(&w->cond);
	while ((w->busy || w->settle || w->dead) && !w->stuck)
		cond_wait(&w->idle, &w->lock);
	if (w->stuck)
		r = -ENOMEM;
	w->draining--;
	lock_release(&w->lock);
	return r;
}

bool settler_reserve(struct settler *w)
{
	bool room;

	lock_take(&w->lock);
	room = !full(w);
	w->n_reserved += room;
	lock_release(&w->lock);
	return room;
}

void settler_unreserve(struct settler *w)
{
	lock_take(&w->lock);
	w->n_reserved--;
	pthread_cond_broadcast(&w->idle);
	lock_release(&w->lock);
}

int settler_await_room(struct settler *w)
{
	int r = 0;

	lock_may_wait_for(WAIT_ROOM);
	lock_take(&w->lock);
	/* This wait ends, since each fork uses its reserved place up, or gives it back. */
	while (full(w) && !(w->stuck && w->n_settle >= UNSETTLED_MAX))
		cond_wait(&w->idle, &w->lock);
	if (full(w))
		r = -ENOMEM;
	lock_release(&w->lock);
	return r;
}
