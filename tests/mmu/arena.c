/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/mmu/arena.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static struct mmu_table *alloc_table(void *ctx)
{
	struct arena *a = ctx;
	uint32_t i = a->n_free ? a->free_table[--a->n_free] : a->n_tables++;

	assert_true(i < A_TABLES);
	memset((void *)a->slots[i], 0, sizeof(a->slots[i]));
	a->table[i].slot = a->slots[i];
	a->table[i].phys = (i + 1) * MMU_PAGE_SIZE;
	a->table[i].id = i;
	a->allocs++;
	return &a->table[i];
}

static void free_table(void *ctx, struct mmu_table *t)
{
	struct arena *a = ctx;

	memset((void *)t->slot, 0xa5, MMU_PAGE_SIZE);
	a->free_table[a->n_free++] = (uint32_t)(t - a->table);
}

static struct mmu_table *find_table(void *ctx, uint64_t phys)
{
	struct arena *a = ctx;

	assert_true(phys && phys / MMU_PAGE_SIZE <= a->n_tables);
	return &a->table[phys / MMU_PAGE_SIZE - 1];
}

static void get_frames(void *ctx, uint64_t first, uint64_t n)
{
	struct arena *a = ctx;

	for (uint64_t f = first; f < first + n; f++)
		assert_true(a->refs[f]++);
}

static void put_frames(void *ctx, uint64_t first, uint64_t n)
{
	struct arena *a = ctx;

	for (uint64_t f = first; f < first + n; f++)
		assert_true(a->refs[f]--);
}

static bool frames_shared(void *ctx, uint64_t first, uint64_t n)
{
	struct arena *a = ctx;

	for (uint64_t f = first; f < first + n; f++)
		if (a->refs[f] > 1)
			return true;
	return false;
}

static int copy_frame(void *ctx, uint64_t frame, uint64_t *copy)
{
	*copy = arena_frames(ctx, 1, 1);
	return 0;
}

static unsigned this_cpu(void *ctx)
{
	return ((struct arena *)ctx)->cpu;
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

void arena_start(struct arena *a, const struct mmu_format *format)
{
	*a = (struct arena){ .slots = calloc(A_TABLES, sizeof(*a->slots)) };
	a->table = calloc(A_TABLES, sizeof(*a->table));
	a->free_table = calloc(A_TABLES, sizeof(*a->free_table));
	a->refs = calloc(A_FRAMES, sizeof(*a->refs));
	assert_true(a->slots && a->table && a->free_table && a->refs);
	mmu_init(&a->mmu, format, &ops, a);
}

void arena_end(struct arena *a)
{
	mmu_quiesce(&a->mmu);
	assert_int_equal(mmu_tables(&a->mmu), 0);
	assert_int_equal(a->n_free, a->n_tables);
	for (uint64_t f = 0; f < a->next_frame; f++)
		assert_int_equal(a->refs[f], 0);
	free((void *)a->slots);
	free(a->table);
	free(a->free_table);
	free(a->refs);
}

uint64_t arena_frames(struct arena *a, uint64_t n, uint64_t align)
{
	uint64_t first = (a->next_frame + align - 1) / align * align;

	a->next_frame = first + n;
	assert_true(a->next_frame <= A_FRAMES);
	for (uint64_t f = first; f < first + n; f++)
		a->refs[f] = 1;
	return first;
}

static void report(void *arg, const char *what, uint64_t phys, uint64_t is, uint64_t should_be)
{
	print_error("%s at %#llx: %llu, should be %llu\n", what, (unsigned long long)phys,
		(unsigned long long)is, (unsigned long long)should_be);
}

void arena_check(struct arena *a, struct mmu_root *const *root, unsigned n)
{
	uint32_t *seen = calloc(A_FRAMES, sizeof(*seen));

	assert_non_null(seen);
	assert_int_equal(mmu_check(&a->mmu, root, n, seen, A_FRAMES, report, NULL), 0);
	assert_memory_equal(seen, a->refs, a->next_frame * sizeof(*seen));
	free(seen);
}
