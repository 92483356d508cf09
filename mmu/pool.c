// SPDX-License-Identifier: Apache-2.0
#include "include/ramet/pool.h"

#include "mmu/trap.h"

#define NO_MEMORY (-12) /* -ENOMEM, which a freestanding environment does not name */

size_t pool_memory(uint64_t blocks)
{
	return (size_t)blocks *
	       (POOL_BLOCK_FRAMES * sizeof(uint32_t) + sizeof(uint32_t) + sizeof(uint16_t));
}

void pool_init(struct pool *p, uint64_t blocks, void *memory, const struct pool_ops *ops, void *ctx)
{
	*p = (struct pool){
		.ops = ops, .ctx = ctx, .blocks = blocks, .small_pos = POOL_BLOCK_FRAMES
	};
	p->refs = memory;
	p->free = p->refs + blocks * POOL_BLOCK_FRAMES;
	p->used = (uint16_t *)(p->free + blocks);
}

static void hand_out(struct pool *p, uint64_t first, uint64_t n)
{
	for (uint64_t f = first; f < first + n; f++) {
		mmu_trap_unless(p->refs[f] == 0);
		p->refs[f] = 1;
		p->used[f / POOL_BLOCK_FRAMES]++;
	}
	p->in_use += n;
	if (p->in_use > p->peak)
		p->peak = p->in_use;
}

static int take_block(struct pool *p, uint64_t *block)
{
	if (p->n_free) {
		*block = p->free[--p->n_free];
		return 0;
	}
	if (p->top == p->blocks)
		return NO_MEMORY;
	*block = p->top++;
	return 0;
}

static int alloc_short(struct pool *p, uint64_t n, uint64_t *first)
{
	uint64_t block, old = p->small;
	int r;

	if (p->small_pos + n > POOL_BLOCK_FRAMES) {
		r = take_block(p, &block);
		if (r)
			return r;
		/* The rest of the old block is unused until all of the block is free; perhaps it is
		 * free already. */
		if (p->small_pos < POOL_BLOCK_FRAMES && !p->used[old])
			p->free[p->n_free++] = (uint32_t)old;
		p->small = block;
		p->small_pos = 0;
	}
	*first = p->small * POOL_BLOCK_FRAMES + p->small_pos;
	p->small_pos += (unsigned)n;
	hand_out(p, *first, n);
	return 0;
}

int pool_alloc_zero(struct pool *p, uint64_t n, uint64_t *first)
{
	mmu_trap_unless(n && n % POOL_BLOCK_FRAMES == 0);
	if (n / POOL_BLOCK_FRAMES > p->blocks - p->top)
		return NO_MEMORY;
	*first = p->top * POOL_BLOCK_FRAMES;
	p->top += n / POOL_BLOCK_FRAMES;
	hand_out(p, *first, n);
	return 0;
}

int pool_alloc(struct pool *p, uint64_t n, uint64_t *first)
{
	uint64_t block;
	int r;

	mmu_trap_unless(n);
	if (n < POOL_BLOCK_FRAMES)
		return alloc_short(p, n, first);
	if (n > POOL_BLOCK_FRAMES)
		return pool_alloc_zero(p, n, first);
	r = take_block(p, &block);
	if (r)
		return r;
	*first = block * POOL_BLOCK_FRAMES;
	hand_out(p, *first, n);
	return 0;
}

void pool_get(struct pool *p, uint64_t first, uint64_t n)
{
	for (uint64_t f = first; f < first + n; f++) {
		mmu_trap_unless(p->refs[f] && p->refs[f] != UINT32_MAX);
		p->refs[f]++;
	}
}

void pool_free(struct pool *p, uint64_t first, uint64_t n)
{
	uint64_t block = first / POOL_BLOCK_FRAMES;

	mmu_trap_unless(n && n <= p->used[block]);
	p->used[block] -= (uint16_t)n;
	if (p->used[block])
		return;
	if (block == p->small && p->small_pos < POOL_BLOCK_FRAMES)
		p->small_pos = 0; /* short runs come from its start again */
	else
		p->free[p->n_free++] = (uint32_t)block;
}

static void idle(struct pool *p, uint64_t first, uint64_t end)
{
	p->in_use -= end - first;
	p->ops->idle(p->ctx, first, end - first);
}

void pool_put(struct pool *p, uint64_t first, uint64_t n)
{
	uint64_t run = first; /* [run, f) have lost their last reference */

	for (uint64_t f = first; f < first + n; f++) {
		mmu_trap_unless(p->refs[f]);
		if (run < f && f % POOL_BLOCK_FRAMES == 0) {
			idle(p, run, f);
			run = f;
		}
		if (--p->refs[f] == 0)
			continue;
		if (run < f)
			idle(p, run, f);
		run = f + 1;
	}
	if (run < first + n)
		idle(p, run, first + n);
}
