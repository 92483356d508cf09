/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Several threads use the same tables: guests that write, faults that break and copy, forks,
 * discards, walks without locks. Tables are small, so that threads meet often. RAMET_MMU_STRESS is
 * the number of rounds of each thread, RAMET_SEED the seed.
 *
 * A guest writes like a processor, through a translation that a flush removes; the flush waits for
 * writes under way. Each page of the shared roots is written by one thread, which must find its
 * last value. A fork must always find the same contents in all its pages.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "include/ramet/mmu.h"
#include "tests/mmu/harness.h"

#ifndef DEFAULT_ROUNDS
#define DEFAULT_ROUNDS 20000
#endif

#define THREADS 5u
#define SHARED	3u  /* number of roots that all threads use */
#define PAGES	64u /* number of pages in use in each root */
#define FRAMES	(1u << 20)
#define TABLES	(1u << 18) /* many: dead tables stay while a thread waits for a CPU */
#define DEAD	UINT64_MAX

struct world {
	struct mmu mmu;
	struct mmu_cpu cpu[THREADS + 1];
	_Atomic int32_t walkers[THREADS + 1][TABLES];
	struct mmu_root root[SHARED];
	pthread_rwlock_t running[SHARED]; /* shared by a guest while it accesses memory */
	pthread_mutex_t lock;
	_Atomic uint64_t slots[TABLES][MMU_SLOTS];
	struct mmu_table table[TABLES];
	uint32_t free_table[TABLES], n_free, n_tables;
	_Atomic uint32_t refs[FRAMES];
	_Atomic uint64_t value[FRAMES]; /* number of the write << 8 | page */
	_Atomic uint32_t next_frame;
	uint64_t last[SHARED][PAGES]; /* last value written to each page; 0: not mapped */
	unsigned long rounds;
	uint64_t seed;
};

static struct world w;
static _Thread_local unsigned self;
static _Thread_local uint64_t rnd;

static unsigned pick(unsigned n)
{
	rnd ^= rnd << 13;
	rnd ^= rnd >> 7;
	rnd ^= rnd << 17;
	return (unsigned)(rnd * 0x2545f4914f6cdd1dull >> 40) % n;
}

_Noreturn void h_die(const char *file, int line, const char *what)
{
	fprintf(stderr, "%s:%d: %s (thread %u)\n", file, line, what, self);
	abort();
}

/* ---- functions that the library calls ---- */

static struct mmu_table *alloc_table(void *ctx)
{
	struct mmu_table *t;
	uint32_t i;

	pthread_mutex_lock(&w.lock);
	h_require(w.n_free || w.n_tables < TABLES);
	i = w.n_free ? w.free_table[--w.n_free] : w.n_tables++;
	pthread_mutex_unlock(&w.lock);
	t = &w.table[i];
	t->slot = w.slots[i];
	t->phys = (i + 1) * MMU_PAGE_SIZE;
	t->id = i;
	for (unsigned k = 0; k < MMU_SLOTS; k++)
		atomic_store_explicit(&t->slot[k], 0, memory_order_relaxed);
	return t;
}

static void free_table(void *ctx, struct mmu_table *t)
{
	uint32_t i = (uint32_t)(t - w.table);

	for (unsigned k = 0; k < MMU_SLOTS; k++)
		atomic_store_explicit(&t->slot[k], 0xa5a5a5a5a5a5a5a5ull, memory_order_relaxed);
	pthread_mutex_lock(&w.lock);
	w.free_table[w.n_free++] = i;
	pthread_mutex_unlock(&w.lock);
}

static struct mmu_table *find_table(void *ctx, uint64_t phys)
{
	h_require(phys && phys / MMU_PAGE_SIZE <= TABLES);
	return &w.table[phys / MMU_PAGE_SIZE - 1];
}

static void get_frames(void *ctx, uint64_t first, uint64_t n)
{
	for (uint64_t f = first; f < first + n; f++)
		h_require(f < FRAMES && atomic_fetch_add(&w.refs[f], 1));
}

/* Freed tables are reused late, so that an access to a dead table is noticed. */
static void put_frames(void *ctx, uint64_t first, uint64_t n)
{
	for (uint64_t f = first; f < first + n; f++) {
		uint32_t refs = atomic_fetch_sub(&w.refs[f], 1);

		h_require(refs);
		if (refs == 1)
			atomic_store(&w.value[f], DEAD);
	}
}

static bool frames_shared(void *ctx, uint64_t first, uint64_t n)
{
	for (uint64_t f = first; f < first + n; f++)
		if (atomic_load(&w.refs[f]) > 1)
			return true;
	return false;
}

static uint64_t new_frame(uint64_t value)
{
	uint32_t f, none;

	do {
		f = atomic_fetch_add(&w.next_frame, 1) % FRAMES;
		none = 0;
	} while (!atomic_compare_exchange_strong(&w.refs[f], &none, 1));
	atomic_store(&w.value[f], value);
	return f;
}

static int copy_frame(void *ctx, uint64_t frame, uint64_t *copy)
{
	*copy = new_frame(atomic_load(&w.value[frame]));
	return 0;
}

static void flush(void *ctx, struct mmu_root *root, const struct mmu_flush *what)
{
	for (unsigned i = 0; i < SHARED; i++)
		if (root == &w.root[i]) {
			pthread_rwlock_wrlock(&w.running[i]);
			pthread_rwlock_unlock(&w.running[i]);
		}
}

static unsigned this_cpu(void *ctx)
{
	return self;
}

static void relax(void *ctx)
{
	struct timespec t = { 0, 1000 };

	nanosleep(&t, NULL);
}

static const struct mmu_ops ops = {
	.alloc_table = alloc_table,
	.free_table = free_table,
	.table = find_table,
	.get_frames = get_frames,
	.put_frames = put_frames,
	.frames_shared = frames_shared,
	.copy_frame = copy_frame,
	.flush = flush,
	.cpu = this_cpu,
	.relax = relax,
};

/* ---- guests ---- */

static gpa_t address(unsigned page)
{
	return gpa(page * MMU_PAGE_SIZE);
}

/* Reads, and writes if requested, if the translation allows it. 0: it did not. */
static uint64_t guest_access(unsigned r, unsigned page, uint64_t write)
{
	struct mmu_attr a;
	uint64_t frame, v = 0;

	pthread_rwlock_rdlock(&w.running[r]);
	if (!mmu_translate(&w.mmu, &w.root[r], address(page), &frame, &a)) {
		v = atomic_load(&w.value[frame]);
		h_require(v != DEAD && (v & 0xff) == page);
		if (write && a.w)
			atomic_store(&w.value[frame], v = write);
		else if (write)
			v = 0;
	}
	pthread_rwlock_unlock(&w.running[r]);
	return v;
}

static void map_page(unsigned r, unsigned page)
{
	struct mmu_attr a = { .r = true, .w = true, .x = true, .memory_type = 6 };

	w.last[r][page] += 256 + (w.last[r][page] ? 0 : page);
	h_require(!mmu_map(&w.mmu, &w.root[r], address(page), 1, new_frame(w.last[r][page]), a));
}

static void write_page(unsigned r, unsigned page)
{
	uint64_t v = w.last[r][page] + 256, frame;

	if (!w.last[r][page]) {
		map_page(r, page);
		return;
	}
	h_require(guest_access(r, page, 0) == w.last[r][page]);
	while (!guest_access(r, page, v))
		h_require(!mmu_touch_write(&w.mmu, &w.root[r], address(page), &frame));
	w.last[r][page] = v;
}

static void discard_page(unsigned r, unsigned page)
{
	h_require(!mmu_discard(&w.mmu, &w.root[r], address(page), 1));
	h_require(!guest_access(r, page, 0));
	w.last[r][page] = 0;
}

/* ---- forks that only this thread has ---- */

static void look(struct mmu_root *root, uint64_t v[PAGES])
{
	for (unsigned page = 0; page < PAGES; page++) {
		struct mmu_attr a;
		uint64_t frame;

		v[page] = 0;
		if (!mmu_translate(&w.mmu, root, address(page), &frame, &a)) {
			v[page] = atomic_load(&w.value[frame]);
			h_require(v[page] != DEAD && (v[page] & 0xff) == page);
		}
	}
}

static void write_private(struct mmu_root *root, uint64_t v[PAGES])
{
	unsigned page = pick(PAGES);
	uint64_t frame;
	int r = mmu_touch_write(&w.mmu, root, address(page), &frame);

	h_require(r == (v[page] ? 0 : MMU_NOT_MAPPED));
	if (!r)
		atomic_store(&w.value[frame], v[page] += 256);
}

static int ignore(
	void *arg, gpa_t at, uint64_t n, const struct mmu_leaf *a, const struct mmu_leaf *b)
{
	return 0;
}

static void fork_root(unsigned r)
{
	uint64_t first[PAGES], again[PAGES];
	struct mmu_root child, grandchild;
	bool two = pick(2);

	h_require(!mmu_fork(&w.mmu, &w.root[r], pick(5), &child));
	look(&child, first);
	if (two)
		h_require(!mmu_fork(&w.mmu, &child, pick(5), &grandchild));
	for (unsigned i = pick(8); i; i--) {
		write_private(&child, first);
		look(&child, again);
		h_require(!memcmp(first, again, sizeof(first)));
	}
	mmu_diff(&w.mmu, &child, &w.root[r], ignore, NULL, NULL);
	h_require(!mmu_share_span(&w.mmu, &child, &w.root[r], gpa(0)));
	look(&child, first);
	write_private(&child, first);
	look(&child, again);
	h_require(!memcmp(first, again, sizeof(first)));
	if (two)
		mmu_root_put(&w.mmu, &grandchild);
	mmu_root_put(&w.mmu, &child);
}

static int count_leaf(void *arg, const struct mmu_leaf *leaf)
{
	++*(unsigned *)arg;
	return 0;
}

static void walk(unsigned r)
{
	struct mmu_visit v;
	unsigned n = 0;

	if (mmu_visit(&w.mmu, &w.root[r], address(pick(PAGES)), &v)) {
		for (unsigned i = 0; i < MMU_SLOTS; i++)
			h_require(atomic_load(&v.table->slot[i]) != 0xa5a5a5a5a5a5a5a5ull);
		mmu_visit_end(&w.mmu, &v);
	}
	mmu_iterate(&w.mmu, &w.root[r], gpa(0), PAGES, count_leaf, &n);
	h_require(n <= PAGES);
}

static void *thread(void *arg)
{
	struct mmu_attr a = { .r = true, .w = true, .memory_type = 6 };

	self = (unsigned)(uintptr_t)arg;
	rnd = w.seed + self * 0x9e3779b97f4a7c15ull;
	for (unsigned long i = 0; i < w.rounds; i++) {
		unsigned r = pick(SHARED), what = pick(100);
		unsigned page = pick(PAGES / THREADS) * THREADS + self;

		if (what < 50)
			write_page(r, page);
		else if (what < 70)
			discard_page(r, page);
		else if (what < 85)
			walk(r);
		else if (what < 97)
			fork_root(r);
		else if (what < 98)
			mmu_reclaim(&w.mmu, &w.root[r]);
		else if (what < 99)
			h_require(!mmu_protect(&w.mmu, &w.root[r], gpa(0), PAGES, a));
		else
			h_require(!mmu_merge(&w.mmu, &w.root[r], gpa(0), PAGES, 2));
	}
	return NULL;
}

/* ---- the test ---- */

static void report(void *arg, const char *what, uint64_t phys, uint64_t is, uint64_t should_be)
{
	fprintf(stderr, "%s at %#llx: %llu, should be %llu\n", what, (unsigned long long)phys,
		(unsigned long long)is, (unsigned long long)should_be);
}

static void check(void)
{
	static uint32_t seen[FRAMES];
	struct mmu_root *root[SHARED];

	memset(seen, 0, sizeof(seen));
	for (unsigned i = 0; i < SHARED; i++)
		root[i] = &w.root[i];
	mmu_quiesce(&w.mmu);
	h_require(!mmu_check(&w.mmu, root, SHARED, seen, FRAMES, report, NULL));
	for (unsigned f = 0; f < FRAMES; f++)
		h_require(seen[f] == w.refs[f]);
	for (unsigned r = 0; r < SHARED; r++)
		for (unsigned page = 0; page < PAGES; page++)
			h_require(guest_access(r, page, 0) == w.last[r][page]);
}

static void run(const struct mmu_scheme *scheme, const struct mmu_format *format, unsigned keep)
{
	pthread_t t[THREADS];

	memset(&w.mmu, 0, sizeof(w.mmu));
	memset(w.last, 0, sizeof(w.last));
	atomic_store(&w.next_frame, 0);
	mmu_init(&w.mmu, format, &ops, NULL);
	for (unsigned i = 0; i <= THREADS; i++)
		w.cpu[i].walkers = w.walkers[i];
	w.mmu.scheme = scheme;
	w.mmu.keep = keep;
	mmu_concurrent(&w.mmu, w.cpu, THREADS + 1);
	self = THREADS;
	for (unsigned i = 0; i < SHARED; i++)
		h_require(!mmu_root_init(&w.mmu, &w.root[i]));
	for (unsigned i = 0; i < THREADS; i++)
		h_require(!pthread_create(&t[i], NULL, thread, (void *)(uintptr_t)i));
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	check();
	printf("%s, %s, keep %u: %llu tables broken, %llu reused\n", mmu_scheme_name(scheme),
		format == &mmu_ept ? "EPT" : "NPT", keep, (unsigned long long)w.mmu.breaks,
		(unsigned long long)w.mmu.reuses);
	for (unsigned i = 0; i < SHARED; i++)
		mmu_root_put(&w.mmu, &w.root[i]);
	mmu_quiesce(&w.mmu);
	h_require(!mmu_tables(&w.mmu) && w.n_free == w.n_tables);
	for (unsigned f = 0; f < FRAMES; f++)
		h_require(!w.refs[f]);
}

int main(void)
{
	const char *rounds = getenv("RAMET_MMU_STRESS"), *seed = getenv("RAMET_SEED");

	w.rounds = rounds ? strtoul(rounds, NULL, 0) : DEFAULT_ROUNDS;
	w.seed = seed ? strtoull(seed, NULL, 0) : (uint64_t)time(NULL) * 2 + 1;
	printf("RAMET_SEED=%llu\n", (unsigned long long)w.seed);
	fflush(stdout);
	pthread_mutex_init(&w.lock, NULL);
	for (unsigned i = 0; i < SHARED; i++)
		pthread_rwlock_init(&w.running[i], NULL);
	run(&mmu_scan, &mmu_ept, 0);
	run(&mmu_atomic, &mmu_npt, 2);
	run(&mmu_percpu, &mmu_ept, 1);
	run(&mmu_none, &mmu_npt, 0);
	return 0;
}
