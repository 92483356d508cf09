// SPDX-License-Identifier: Apache-2.0
/* How locks are made, and the check of their order (lock.h). */
#include "vmm/base/lock.h"

#include <stdio.h>
#include <stdlib.h>

#ifdef RAMET_LOCK_CHECK
#define SET_RANK(l, r) ((l)->rank = (r))
#else
#define SET_RANK(l, r) ((void)(r))
#endif

void lock_init(struct lock *l, enum lock_rank rank)
{
	pthread_mutexattr_t attr;

	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setprotocol(&attr, PTHREAD_PRIO_INHERIT);
	pthread_mutex_init(&l->mutex, &attr);
	pthread_mutexattr_destroy(&attr);
	SET_RANK(l, rank);
}

void rwlock_init(struct rwlock *l, enum lock_rank rank)
{
	pthread_rwlockattr_t attr;

	pthread_rwlockattr_init(&attr);
	pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&l->rwlock, &attr);
	pthread_rwlockattr_destroy(&attr);
	SET_RANK(l, rank);
}

#ifdef RAMET_LOCK_CHECK

/* How many things other than mutexes (readers-writer locks, BUSY spans) a thread may hold at once:
 * chains of generations are short. */
#define ENTERED_MAX 64

#define NAME(rank, name) [rank] = (name),
static const char *const rank_name[LOCK_RANKS_END] = { [LOCK_NONE] = "a lock without a rank",
	LOCK_RANKS(NAME) };

#define WAIT(wait, from, text) [wait] = { from, text },
static const struct {
	enum lock_rank from; /* none of these may be held */
	const char *name;
} waits[] = { LOCK_WAITS(WAIT) };

/* The list of what the calling thread holds, and room for entries that are in no mutex. */
static _Thread_local struct lock_held *held;
static _Thread_local struct lock_held room[ENTERED_MAX];

/* A file's name, relative to the top of the source tree. Meson gives a name relative to the build
 * folder. */
static const char *shown(const char *where)
{
	while (where[0] == '.' && where[1] == '.' && where[2] == '/')
		where += 3;
	return where;
}

/* Prints what is wrong and what the thread holds, and ends the process. */
static void __attribute__((noreturn))
wrong(const char *does, const char *name, const char *where, const char *with, const char *why)
{
	fprintf(stderr, "ramet: locks: %s %s at %s%s%s", does, name, shown(where), with, why);
	for (const struct lock_held *h = held; h; h = h->next)
		fprintf(stderr, "%s %s, taken at %s", h == held ? "; the thread holds" : ",",
			rank_name[h->rank], shown(h->where));
	fprintf(stderr, ". See docs/locking.md.\n");
	abort();
}

/* Views and BUSY spans count as one rank: a thread takes them alternately, from younger generations
 * to older ones. */
static enum lock_rank level_of(enum lock_rank rank)
{
	return rank == LOCK_SPAN ? LOCK_VIEW : rank;
}

static const struct lock_held *find(const void *what)
{
	const struct lock_held *h = held;

	while (h && h->what != what)
		h = h->next;
	return h;
}

void lock_check_order(
	enum lock_rank rank, const void *what, uint64_t order, const char *why, const char *where)
{
	const char *name = rank_name[rank];

	if (rank == LOCK_NONE)
		wrong("taking", name, where, ": it was never initialised", "");
	if (find(what))
		wrong("taking", name, where, ", which the thread already holds", "");
	for (const struct lock_held *h = held; h; h = h->next) {
		if (h->rank >= LOCK_LEAVES)
			wrong("taking", name, where, " under the leaf ", rank_name[h->rank]);
		if (level_of(h->rank) > level_of(rank))
			wrong("taking", name, where, " after ", rank_name[h->rank]);
		if (level_of(h->rank) != level_of(rank))
			continue;
		if (!why)
			wrong("taking", name, where,
				" without lock_take_nested() while it has another ",
				rank_name[h->rank]);
		if (h->order <= order)
			wrong("taking", name, where, " in the wrong order: nested, since ", why);
	}
}

static void push(struct lock_held *h, enum lock_rank rank, const void *what, uint64_t order,
	const char *where)
{
	*h = (struct lock_held){
		.next = held, .what = what, .where = where, .order = order, .rank = rank
	};
	held = h;
}

/* Removes an entry from the list. A thread may release its locks in any order. */
static void pop(const void *what, const char *name, const char *where)
{
	struct lock_held **p = &held;

	while (*p && (*p)->what != what)
		p = &(*p)->next;
	if (!*p)
		wrong("releasing", name, where, ", which the thread does not hold", "");
	(*p)->what = NULL;
	*p = (*p)->next;
}

void lock_check_taken(struct lock *l, uint64_t order, const char *where)
{
	push(&l->held, l->rank, l, order, where);
}

void lock_check_released(struct lock *l, const char *where)
{
	pop(l, rank_name[l->rank], where);
}

void lock_check_entered(enum lock_rank rank, const void *what, uint64_t order, const char *where)
{
	unsigned i = 0;

	while (i < ENTERED_MAX && room[i].what)
		i++;
	if (i == ENTERED_MAX)
		wrong("taking", rank_name[rank], where, ": too many at once", "");
	push(&room[i], rank, what, order, where);
}

void lock_check_left(const void *what, const char *where)
{
	pop(what, "something", where);
}

void lock_check_held(const void *what, const char *where)
{
	if (!find(what))
		wrong("a lock", "should be held", where, ", but the thread does not hold it", "");
}

void lock_check_idle(const void *what, const char *where)
{
	if (find(what))
		wrong("destroying", "a lock", where, ", which the thread holds", "");
}

void lock_check_wait(enum lock_wait wait, const char *where)
{
	for (const struct lock_held *h = held; h; h = h->next)
		if (h->rank >= waits[wait].from)
			wrong("waiting for", waits[wait].name, where, " with ", rank_name[h->rank]);
}

#endif
