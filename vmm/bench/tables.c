/* SPDX-License-Identifier: Apache-2.0 */
/* ramet bench tables: forks, first writes and reads, one thread. */
#include "vmm/bench/tables.h"

#include <stdlib.h>

#include "vmm/base/clock.h"
#include "vmm/bench/bench.h"
#include "vmm/cli/command.h"

#define PAGE 4096u
#define GIB  (1ull << 30)

static const char *const share_name[] = { "copy", "pte", "pd", "pdpt", "root" };

static void must(int r)
{
	if (r)
		exit(complain("the table library failed: %d", r));
}

static json_t *us(struct series *s)
{
	return json_pack("{s:f, s:f}", "p50", (double)series_percentile(s, 50) / 1e3, "p99",
		(double)series_percentile(s, 99) / 1e3);
}

/*
 * Puts a parent back to its state before the fork, which is gone: makes the links that the fork
 * write-protected writable again. After a copy, leaves stay write-protected, which saves the next
 * copy some work.
 */
static void rearm(struct bench_arena *a, struct mmu_root *root, uint64_t bytes, unsigned share)
{
	static const uint64_t stride[] = { 1ull << 48, MMU_SPAN_SIZE, GIB, 512 * GIB, 512 * GIB };

	for (uint64_t at = 0; at < bytes; at += stride[share])
		must(mmu_touch_write(&a->mmu, root, gpa(at), NULL));
}

static void measure_fork(json_t *out, struct bench_arena *a, struct mmu_root *root, uint64_t bytes,
	unsigned share, unsigned reps)
{
	struct mmu_root_stat parent = { 0 }, child = { 0 };
	struct series t = { 0 };

	/* The first fork is not counted: it includes the cost of new memory for the tables. */
	for (unsigned i = 0; i <= reps; i++) {
		struct mmu_root fork;
		uint64_t start = now_ns();

		must(mmu_fork(&a->mmu, root, share, &fork));
		start = now_ns() - start;
		if (i)
			series_add(&t, start);
		if (!i) {
			mmu_root_stat(&a->mmu, root, &parent);
			mmu_root_stat(&a->mmu, &fork, &child);
		}
		mmu_root_put(&a->mmu, &fork);
		rearm(a, root, bytes, share);
	}
	json_array_append_new(
		out, json_pack("{s:s, s:f, s:s, s:o, s:I, s:I}", "bench", "fork", "mapped_gib",
			     (double)bytes / GIB, "share", share_name[share], "us", us(&t),
			     "table_bytes_parent",
			     (json_int_t)((parent.own + parent.shared) * MMU_PAGE_SIZE),
			     "table_bytes_child", (json_int_t)(child.own * MMU_PAGE_SIZE)));
	series_free(&t);
}

void bench_fork(json_t *out, const uint64_t *mapped, unsigned n, unsigned reps)
{
	for (unsigned i = 0; i < n; i++) {
		struct bench_arena a;
		struct mmu_root root;

		bench_arena_start(&a, mapped[i], NULL);
		bench_arena_map(&a, &root, mapped[i]);
		for (unsigned share = MMU_SHARE_NONE; share <= MMU_SHARE_ROOT; share++)
			measure_fork(out, &a, &root, mapped[i], share, share ? 4 * reps : reps);
		mmu_root_put(&a.mmu, &root);
		bench_arena_end(&a);
	}
}

/* ---- first writes ---- */

enum { TABLE_AND_PAGE, PAGE_ONLY, TABLE_REUSED, WRITES };

static uint64_t time_write(struct bench_arena *a, struct mmu_root *root, uint64_t at)
{
	uint64_t start = now_ns();

	must(mmu_touch_write(&a->mmu, root, gpa(at), NULL));
	return now_ns() - start;
}

static void measure_write(
	json_t *out, struct bench_arena *a, struct mmu_root *root, unsigned share, unsigned reps)
{
	static const char *const what[] = { "table+page", "page", "reuse" };
	struct series t[WRITES] = { { 0 } };

	for (unsigned i = 0; i <= reps; i++) {
		uint64_t at = (uint64_t)(i % 512) * MMU_SPAN_SIZE, ns[WRITES];
		struct mmu_root fork;

		must(mmu_fork(&a->mmu, root, share, &fork));
		ns[TABLE_AND_PAGE] = time_write(a, &fork, at);
		ns[PAGE_ONLY] = time_write(a, &fork, at + 7 * PAGE);
		mmu_root_put(&a->mmu, &fork);
		/* The parent is the last sharer of its tables and frames. */
		ns[TABLE_REUSED] = time_write(a, root, at);
		for (unsigned k = 0; i && k < WRITES; k++)
			series_add(&t[k], ns[k]);
	}
	for (unsigned k = 0; k < WRITES; k++) {
		json_array_append_new(
			out, json_pack("{s:s, s:s, s:s, s:o}", "bench", "first_write", "share",
				     share_name[share], "what", what[k], "us", us(&t[k])));
		series_free(&t[k]);
	}
}

void bench_first_write(json_t *out, unsigned reps)
{
	struct bench_arena a;
	struct mmu_root root;

	bench_arena_start(&a, GIB, NULL);
	bench_arena_map(&a, &root, GIB);
	for (unsigned share = MMU_SHARE_NONE; share <= MMU_SHARE_ROOT; share++)
		measure_write(out, &a, &root, share, reps);
	mmu_root_put(&a.mmu, &root);
	bench_arena_end(&a);
}

/* ---- reads ---- */

static double ns_per_read(struct bench_arena *a, struct mmu_root *root, uint64_t bytes)
{
	enum { READS = 2000000 };
	uint64_t seed = 1, start = now_ns(), frame;
	struct mmu_attr attr;

	for (unsigned i = 0; i < READS; i++) {
		seed = seed * 6364136223846793005ull + 1442695040888963407ull;
		must(mmu_translate(&a->mmu, root, gpa((seed >> 20) % bytes), &frame, &attr));
	}
	return (double)(now_ns() - start) / READS;
}

static void add_read(json_t *out, const char *tables, double ns)
{
	json_array_append_new(
		out, json_pack("{s:s, s:s, s:f}", "bench", "read", "tables", tables, "ns", ns));
}

void bench_read(json_t *out)
{
	struct bench_arena a;
	struct mmu_root root, fork;

	bench_arena_start(&a, GIB, NULL);
	bench_arena_map(&a, &root, GIB);
	ns_per_read(&a, &root, GIB);
	add_read(out, "private", ns_per_read(&a, &root, GIB));
	for (unsigned share = MMU_SHARE_PTE; share <= MMU_SHARE_ROOT; share++) {
		must(mmu_fork(&a.mmu, &root, share, &fork));
		add_read(out, share_name[share], ns_per_read(&a, &fork, GIB));
		mmu_root_put(&a.mmu, &fork);
	}
	mmu_root_put(&a.mmu, &root);
	bench_arena_end(&a);
}
