/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The locks of the monitor. Each has a place in one order, which docs/locking.md explains.
 *
 * A build with RAMET_LOCK_CHECK (a debug build, or one with a sanitizer) keeps a list of what each
 * thread holds. It prints both names and both places, and aborts, when a thread
 *   - takes a lock while it holds one of the same rank or further down,
 *   - takes anything while it holds a leaf,
 *   - releases or waits with a lock that it does not hold, or takes one that was never initialised,
 *   - waits for another thread while it holds a lock that this other thread may need.
 * In other builds each call is only the pthread call that it stands for.
 */
#ifndef RAMET_VMM_BASE_LOCK_H
#define RAMET_VMM_BASE_LOCK_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

/* Every lock, in the order in which locks are taken, with its name in docs/locking.md. A thread
 * that holds a lock from LOCK_LEAVES on takes no other lock. */
#define LOCK_RANKS(X)                           \
	X(LOCK_HOST, "host.lock")               \
	X(LOCK_OPERATIONS, "family.operations") \
	X(LOCK_VM_OP, "vm.op")                  \
	X(LOCK_VM_INPUT, "vm.input_lock")       \
	X(LOCK_PCI, "pci_bus.lock")             \
	X(LOCK_VIRTIO, "virtio.lock")           \
	X(LOCK_SERIAL, "serial.lock")           \
	X(LOCK_SERIAL_OUT, "serial.out_lock")   \
	X(LOCK_VIEW, "view.lock")               \
	X(LOCK_SPAN, "BUSY span")               \
	X(LOCK_GENERATIONS, "generations.lock") \
	X(LOCK_MEMORY, "memory.lock")           \
	X(LOCK_FAMILY, "family.lock")           \
	X(LOCK_SHELL_POOL, "shell_pool.lock")   \
	X(LOCK_SETTLER, "settler.lock")         \
	X(LOCK_REAPER, "reaper.lock")           \
	X(LOCK_BUDGET, "budget.lock")           \
	X(LOCK_VIEW_ARENA, "view_arena.lock")   \
	X(LOCK_MACHINE, "machine.lock")         \
	X(LOCK_DISK_BASE, "disk_base.lock")     \
	X(LOCK_VM_WATCH, "vm.watch_lock")       \
	X(LOCK_CONSOLE_LOG, "console_log.lock")

#define LOCK_RANK_OF(rank, name) rank,
enum lock_rank { LOCK_NONE, LOCK_RANKS(LOCK_RANK_OF) LOCK_RANKS_END, LOCK_LEAVES = LOCK_MEMORY };
#undef LOCK_RANK_OF

/* What a thread may wait for. Meanwhile it must hold no lock of the given rank or a later one: see
 * the last table of docs/locking.md. */
#define LOCK_WAITS(X)                                                                       \
	X(WAIT_ROOM, LOCK_HOST, "the settler, for a place among the unsettled generations") \
	X(WAIT_SETTLED, LOCK_VM_INPUT, "the settler, until it has nothing left to do")      \
	X(WAIT_VCPUS, LOCK_VM_INPUT, "the vCPUs of a shell")                                \
	X(WAIT_COUNT, LOCK_VM_OP, "another thread that counts the memory of a VM")          \
	X(WAIT_EVENT, LOCK_HOST, "something to happen to a VM")                             \
	X(WAIT_END, LOCK_HOST, "the end of a thread")

#define LOCK_WAIT_OF(wait, rank, name) wait,
enum lock_wait { LOCK_WAITS(LOCK_WAIT_OF) };
#undef LOCK_WAIT_OF

#ifdef RAMET_LOCK_CHECK

/* An entry in the list of what a thread holds. The entry of a mutex is in its struct lock, and only
 * the thread that holds the lock writes it. */
struct lock_held {
	struct lock_held *next; /* the entry that the same thread made before this one */
	const void *what;	/* the address of the lock or span; NULL: this entry is free */
	const char *where;	/* FILE:LINE */
	uint64_t order;
	enum lock_rank rank;
};

struct lock {
	pthread_mutex_t mutex;
	enum lock_rank rank;
	struct lock_held held;
};

struct rwlock {
	pthread_rwlock_t rwlock;
	enum lock_rank rank;
};

#define LOCK_STRING_(x) #x
#define LOCK_STRING(x)	LOCK_STRING_(x)
#define LOCK_HERE	__FILE__ ":" LOCK_STRING(__LINE__)
#define LOCK_RANK(l)	((l)->rank)

void lock_check_order(
	enum lock_rank rank, const void *what, uint64_t order, const char *why, const char *where);
void lock_check_taken(struct lock *l, uint64_t order, const char *where);
void lock_check_released(struct lock *l, const char *where);
void lock_check_entered(enum lock_rank rank, const void *what, uint64_t order, const char *where);
void lock_check_left(const void *what, const char *where);
void lock_check_held(const void *what, const char *where);
void lock_check_idle(const void *what, const char *where);
void lock_check_wait(enum lock_wait wait, const char *where);

#else

struct lock {
	pthread_mutex_t mutex;
};

struct rwlock {
	pthread_rwlock_t rwlock;
};

#define LOCK_HERE    NULL
#define LOCK_RANK(l) LOCK_NONE

static inline void lock_check_order(
	enum lock_rank rank, const void *what, uint64_t order, const char *why, const char *where)
{
}

static inline void lock_check_taken(struct lock *l, uint64_t order, const char *where)
{
}

static inline void lock_check_released(struct lock *l, const char *where)
{
}

static inline void lock_check_entered(
	enum lock_rank rank, const void *what, uint64_t order, const char *where)
{
}

static inline void lock_check_left(const void *what, const char *where)
{
}

static inline void lock_check_held(const void *what, const char *where)
{
}

static inline void lock_check_idle(const void *what, const char *where)
{
}

static inline void lock_check_wait(enum lock_wait wait, const char *where)
{
}

#endif

/* The order of a lock that is taken before all others of its rank. */
#define LOCK_FIRST UINT64_MAX

/* The holder of a lock inherits the priority of a thread that waits for it (vmm/base/priority.h).
 * Otherwise a vCPU's thread that holds a lock for a microsecond, and loses its CPU to other guests
 * then, would hold up a real-time thread until these guests give the CPU back. */
void lock_init(struct lock *l, enum lock_rank rank);
#define lock_destroy(l) lock_destroy_at(l, LOCK_HERE)

#define lock_take(l) lock_take_at(l, LOCK_HERE)
/*
 * Takes a lock while the caller may hold others of the same rank, for the reason that the string
 * `why` states. `order` must be lower than that of all locks of this rank (views and BUSY spans are
 * one rank in this respect) that the caller holds.
 */
#define lock_take_nested(l, order, why) lock_take_nested_at(l, order, why, LOCK_HERE)
/* False: another thread holds the lock. This call does not wait, so the caller may hold any lock.
 */
#define lock_try(l)	lock_try_at(l, LOCK_HERE)
#define lock_release(l) lock_release_at(l, LOCK_HERE)
/* Asserts that the caller holds the lock. */
#define lock_assert_held(l) lock_check_held(l, LOCK_HERE)

/* The caller holds the lock, and nothing below it. cond_wait_until() returns 0 or ETIMEDOUT. */
#define cond_wait(cond, l)		cond_wait_at(cond, l, LOCK_HERE)
#define cond_wait_until(cond, l, until) cond_wait_until_at(cond, l, until, LOCK_HERE)

/* Readers and writers: a writer that waits comes before readers that come later. Otherwise many
 * readers could keep a writer waiting for ever. Not recursive. */
void rwlock_init(struct rwlock *l, enum lock_rank rank);
#define rwlock_destroy(l) rwlock_destroy_at(l, LOCK_HERE)
#define rwlock_read(l)	  rwlock_read_at(l, LOCK_HERE)
#define rwlock_write(l)	  rwlock_write_at(l, LOCK_HERE)
#define rwlock_release(l) rwlock_release_at(l, LOCK_HERE)

/* For a state that is held like a lock (a BUSY span): may_enter() before the caller waits for it,
 * entered() once the caller has it, left() before the caller gives it up. `order` and `why` as
 * above. */
#define lock_may_enter(rank, what, order, why) lock_check_order(rank, what, order, why, LOCK_HERE)
#define lock_entered(rank, what, order)	       lock_check_entered(rank, what, order, LOCK_HERE)
#define lock_left(what)			       lock_check_left(what, LOCK_HERE)

/* The caller is about to wait for another thread, and holds no lock that this thread may need. */
#define lock_may_wait_for(wait) lock_check_wait(wait, LOCK_HERE)

/* ---- the same with the place of the call ---- */

static inline void lock_destroy_at(struct lock *l, const char *where)
{
	lock_check_idle(l, where);
	pthread_mutex_destroy(&l->mutex);
}

static inline void lock_take_nested_at(
	struct lock *l, uint64_t order, const char *why, const char *where)
{
	lock_check_order(LOCK_RANK(l), l, order, why, where);
	pthread_mutex_lock(&l->mutex);
	lock_check_taken(l, order, where);
}

static inline void lock_take_at(struct lock *l, const char *where)
{
	lock_take_nested_at(l, LOCK_FIRST, NULL, where);
}

static inline bool lock_try_at(struct lock *l, const char *where)
{
	if (pthread_mutex_trylock(&l->mutex))
		return false;
	lock_check_taken(l, LOCK_FIRST, where);
	return true;
}

static inline void lock_release_at(struct lock *l, const char *where)
{
	lock_check_released(l, where);
	pthread_mutex_unlock(&l->mutex);
}

/* The lock is taken once more when the wait is over. */
static inline void cond_wait_at(pthread_cond_t *cond, struct lock *l, const char *where)
{
	lock_check_released(l, where);
	lock_check_order(LOCK_RANK(l), l, LOCK_FIRST, NULL, where);
	pthread_cond_wait(cond, &l->mutex);
	lock_check_taken(l, LOCK_FIRST, where);
}

static inline int cond_wait_until_at(
	pthread_cond_t *cond, struct lock *l, const struct timespec *until, const char *where)
{
	int r;

	lock_check_released(l, where);
	lock_check_order(LOCK_RANK(l), l, LOCK_FIRST, NULL, where);
	r = pthread_cond_timedwait(cond, &l->mutex, until);
	lock_check_taken(l, LOCK_FIRST, where);
	return r;
}

static inline void rwlock_destroy_at(struct rwlock *l, const char *where)
{
	lock_check_idle(l, where);
	pthread_rwlock_destroy(&l->rwlock);
}

static inline void rwlock_read_at(struct rwlock *l, const char *where)
{
	lock_check_order(LOCK_RANK(l), l, LOCK_FIRST, NULL, where);
	pthread_rwlock_rdlock(&l->rwlock);
	lock_check_entered(LOCK_RANK(l), l, LOCK_FIRST, where);
}

static inline void rwlock_write_at(struct rwlock *l, const char *where)
{
	lock_check_order(LOCK_RANK(l), l, LOCK_FIRST, NULL, where);
	pthread_rwlock_wrlock(&l->rwlock);
	lock_check_entered(LOCK_RANK(l), l, LOCK_FIRST, where);
}

static inline void rwlock_release_at(struct rwlock *l, const char *where)
{
	lock_check_left(l, where);
	pthread_rwlock_unlock(&l->rwlock);
}

#endif
