/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "vmm/bench/tables.h"
#include "vmm/cli/command.h"

#define PAGE	     4096u
#define MEMORY_PAGES 4096u /* copies use these pages in turn; larger than the caches */

_Thread_local unsigned bench_cpu;

static void *sparse(size_t len)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		exit(complain("out of memory"));
	return p;
}

static struct mmu_table *alloc_table(void *ctx)
{
	struct bench_arena *a = ctx;
	uint64_t top = atomic_load(&a->free), next;
	uint32_t i;

	do {
		if (!(uint32_t)top)
			break;
		next = ((top >> 32) + 1) << 32 | a->next_free[(uint32_t)top - 1];
	} while (!atomic_compare_exchange_weak(&a->free, &top, next));
	if ((uint32_t)top) {
		i = (uint32_t)top - 1;
		memset((void *)a->slots[i], 0, sizeof(a->slots[i]));
	} else {
		i = atomic_fetch_add(&a->top, 1);
		if (i >= a->max_tables)
			exit(complain("the benchmark ran out of tables"));
	}
	a->table[i].slot = a->slots[i];
	a->table[i].phys = (uint64_t)i * MMU_PAGE_SIZE;
	a->table[i].id = i;
	return &a->table[i];
}

static void free_table(void *ctx, struct mmu_table *t)
{
	struct bench_arena *a = ctx;
	uint32_t i = (uint32_t)(t - a->table);
	uint64_t top = atomic_load(&a->free);

	do
		a->next_free[i] = (uint32_t)top;
	while (!atomic_compare_exchange_weak(&a->free, &top, ((top >> 32) + 1) << 32 | (i + 1)));
}

static struct mmu_table *find_table(void *ctx, uint64_t phys)
{
	return &((struct bench_arena *)ctx)->table[phys / MMU_PAGE_SIZE];
}

/* While calls are serialized, frames are counted without atomic operations, as in the monitor. */
static void add_refs(struct bench_arena *a, uint64_t first, uint64_t n, uint32_t by)
{
	for (uint64_t f = first; f < first + n; f++) {
		if (a->mmu.cpu)
			atomic_fetch_add_explicit(&a->refs[f], by, memory_order_relaxed);
		else
			atomic_store_explicit(&a->refs[f],
				atomic_load_explicit(&a->refs[f], memory_order_relaxed) + by,
				memory_order_relaxed);
	}
}

static void get_frames(void *ctx, uint64_t first, uint64_t n)
{
	add_refs(ctx, first, n, 1);
}

static void put_frames(void *ctx, uint64_t first, uint64_t n)
{
	add_refs(ctx, first, n, (uint32_t)-1);
}

static bool frames_shared(void *ctx, uint64_t first, uint64_t n)
{
	const struct bench_arena *a = ctx;

	for (uint64_t f = first; f < first + n; f++)
		if (a->refs[f] > 1)
			return true;
	return false;
}

static int copy_frame(void *ctx, uint64_t frame, uint64_t *copy)
{
	struct bench_arena *a = ctx;

	*copy = atomic_fetch_add(&a->spare, 1) % a->n_frames;
	memcpy(a->memory + *copy % MEMORY_PAGES * PAGE,
		a->memory + (frame + MEMORY_PAGES / 2) % MEMORY_PAGES * PAGE, PAGE);
	atomic_fetch_add_explicit(&a->refs[*copy], 1, memory_order_relaxed);
	return 0;
}

static unsigned this_cpu(void *ctx)
{
	return bench_cpu;
}

static const struct mmu_ops ops = {
	.alloc_table = alloc_table,
	.free_table = free_table,
	.table = find_table,
	.get_frames = get_frames,
	.put_frames = put_frames,
	.frames_shared = frames_shared,
	.copy_frame = copy_frame,
	.cpu = this_cpu,
};

void bench_arena_start(struct bench_arena *a, uint64_t bytes, const struct mmu_scheme *concurrent)
{
	uint64_t spans = bytes / MMU_SPAN_SIZE + 1;

	*a = (struct bench_arena){
		.n_frames = bytes / PAGE + (1u << 20),
		.max_tables = 2 * spans + spans / 128 + 4096,
		.spare = bytes / PAGE,
	};
	a->slots = sparse(a->max_tables * sizeof(*a->slots));
	a->table = sparse(a->max_tables * sizeof(*a->table));
	a->next_free = sparse(a->max_tables * sizeof(*a->next_free));
	a->refs = sparse(a->n_frames * sizeof(*a->refs));
	a->memory = sparse((size_t)MEMORY_PAGES * PAGE);
	memset(a->memory, 1, (size_t)MEMORY_PAGES * PAGE);
	mmu_init(&a->mmu, &mmu_ept, &ops, a);
	if (!concurrent)
		return;
	a->mmu.scheme = concurrent;
	for (unsigned i = 0; i < BENCH_CPUS; i++)
		a->cpu[i].walkers = sparse(a->max_tables * sizeof(*a->cpu[i].walkers));
	mmu_concurrent(&a->mmu, a->cpu, BENCH_CPUS);
}

void bench_arena_end(struct bench_arena *a)
{
	munmap((void *)a->slots, a->max_tables * sizeof(*a->slots));
	munmap(a->table, a->max_tables * sizeof(*a->table));
	munmap((void *)a->next_free, a->max_tables * sizeof(*a->next_free));
	munmap((void *)a->refs, a->n_frames * sizeof(*a->refs));
	munmap(a->memory, (size_t)MEMORY_PAGES * PAGE);
	for (unsigned i = 0; i < a->mmu.n_cpus; i++)
		munmap((void *)a->cpu[i].walkers, a->max_tables * sizeof(*a->cpu[i].walkers));
}

void bench_arena_map(struct bench_arena *a, struct mmu_root *root, uint64_t bytes)
{
	struct mmu_attr rw = { .r = true, .w = true, .x = true, .memory_type = 6 };
	uint64_t n = bytes / PAGE;

	if (mmu_root_init(&a->mmu, root))
		exit(complain("out of memory"));
	for (uint64_t i = 0; i < n; i++) {
		/* Swap neighbours: frames are not consecutive after much copy-on-write. */
		uint64_t frame = i ^ 1;

		atomic_store_explicit(&a->refs[frame], 1, memory_order_relaxed);
		if (mmu_map(&a->mmu, root, gpa(i * PAGE), 1, frame, rw))
			exit(complain("out of memory"));
	}
}

void bench_arena_warm(struct bench_arena *a, uint64_t bytes)
{
	uint64_t tables = bytes / MMU_SPAN_SIZE + bytes / MMU_SPAN_SIZE / 512 + 3;

	/* Fails without harm on kernels before 5.14. */
	madvise((void *)a->slots, tables * sizeof(*a->slots), MADV_POPULATE_WRITE);
	madvise(a->table, tables * sizeof(*a->table), MADV_POPULATE_WRITE);
	madvise((void *)a->refs, bytes / PAGE * sizeof(*a->refs), MADV_POPULATE_WRITE);
}
