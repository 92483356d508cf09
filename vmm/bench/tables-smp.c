/* SPDX-License-Identifier: Apache-2.0 */
/* ramet bench tables: the reference schemes, with threads. */
#include <pthread.h>
#include <stdlib.h>

#include "vmm/base/clock.h"
#include "vmm/bench/bench.h"
#include "vmm/bench/tables.h"
#include "vmm/cli/command.h"

#define PAGE	  4096u
#define GIB	  (1ull << 30)
#define WALK_TIME 200000000u /* ns of each measurement */

static const struct mmu_scheme *const schemes[] = { &mmu_none, &mmu_scan, &mmu_atomic,
	&mmu_percpu };
#define SCHEMES (sizeof(schemes) / sizeof(schemes[0]))

struct walker {
	pthread_t thread;
	unsigned cpu;
	struct bench_arena *a;
	struct mmu_root *root;
	uint64_t bytes; /* the range that it walks */
	_Atomic bool *stop;
	uint64_t walks;
};

/* A walker: finds the table, holds it, reads the entry, releases the table. */
static void *walk(void *arg)
{
	struct walker *w = arg;
	uint64_t seed = w->cpu + 1, sum = 0;

	bench_cpu = w->cpu;
	while (!atomic_load_explicit(w->stop, memory_order_relaxed)) {
		for (unsigned i = 0; i < 64; i++) {
			struct mmu_visit v;
			uint64_t at;

			seed = seed * 6364136223846793005ull + 1442695040888963407ull;
			at = (seed >> 20) % w->bytes;
			if (!mmu_visit(&w->a->mmu, w->root, gpa(at), &v))
				continue;
			sum += v.table->slot[at / PAGE % MMU_SLOTS];
			mmu_visit_end(&w->a->mmu, &v);
		}
		w->walks += 64;
	}
	return (void *)(uintptr_t)sum;
}

static double walks_per_s(
	struct bench_arena *a, struct mmu_root *root, unsigned threads, uint64_t bytes)
{
	_Atomic bool stop = false;
	struct walker w[BENCH_CPUS];
	uint64_t start = now_ns(), walks = 0;
	struct timespec t = { 0, WALK_TIME };

	for (unsigned i = 0; i < threads; i++) {
		w[i] = (struct walker){
			.cpu = i, .a = a, .root = root, .bytes = bytes, .stop = &stop
		};
		if (pthread_create(&w[i].thread, NULL, walk, &w[i]))
			exit(complain("cannot start a thread"));
	}
	nanosleep(&t, NULL);
	atomic_store(&stop, true);
	for (unsigned i = 0; i < threads; i++) {
		pthread_join(w[i].thread, NULL);
		walks += w[i].walks;
	}
	return (double)walks * 1e9 / (double)(now_ns() - start);
}

static void measure_walks(
	json_t *out, struct bench_arena *a, struct mmu_root *root, unsigned threads, bool one)
{
	json_array_append_new(
		out, json_pack("{s:s, s:s, s:i, s:s, s:f}", "bench", "walks", "scheme",
			     mmu_scheme_name(a->mmu.scheme), "threads", (int)threads, "tables",
			     one ? "one" : "all", "walks_per_s",
			     walks_per_s(a, root, threads, one ? MMU_SPAN_SIZE : GIB)));
}

void bench_walks(json_t *out)
{
	for (unsigned i = 0; i < SCHEMES; i++) {
		struct bench_arena a;
		struct mmu_root root;

		bench_arena_start(&a, GIB, schemes[i]);
		bench_arena_map(&a, &root, GIB);
		for (unsigned one = 0; one < 2; one++) {
			measure_walks(out, &a, &root, 1, one);
			measure_walks(out, &a, &root, BENCH_CPUS, one);
		}
		mmu_root_put(&a.mmu, &root);
		bench_arena_end(&a);
	}
}

/* ---- reclaim ---- */

static uint64_t table_bytes(struct bench_arena *a)
{
	return mmu_tables(&a->mmu) * MMU_PAGE_SIZE;
}

static void measure_reclaim(json_t *out, const struct mmu_scheme *scheme, uint64_t mapped)
{
	struct bench_arena a;
	struct mmu_root root;
	uint64_t start, ns, before;

	bench_arena_start(&a, mapped, scheme);
	bench_arena_warm(&a, mapped);
	start = now_ns();
	bench_arena_map(&a, &root, mapped);
	before = table_bytes(&a);
	for (uint64_t at = 0; at < mapped; at += PAGE)
		if (mmu_discard(&a.mmu, &root, gpa(at), 1))
			exit(complain("out of memory"));
	mmu_quiesce(&a.mmu);
	ns = now_ns() - start;
	json_array_append_new(
		out, json_pack("{s:s, s:s, s:f, s:I, s:I, s:f}", "bench", "reclaim", "scheme",
			     mmu_scheme_name(scheme), "mapped_gib", (double)mapped / GIB,
			     "table_bytes_before", (json_int_t)before, "table_bytes_after",
			     (json_int_t)table_bytes(&a), "ops_per_s",
			     2.0 * (double)(mapped / PAGE) * 1e9 / (double)ns));
	mmu_root_put(&a.mmu, &root);
	bench_arena_end(&a);
}

void bench_reclaim(json_t *out, uint64_t mapped)
{
	for (unsigned i = 0; i < SCHEMES; i++)
		measure_reclaim(out, schemes[i], mapped);
}
