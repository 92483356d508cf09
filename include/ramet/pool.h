/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The frame pool: 4 KiB frames numbered from 0, counted. It knows nothing of what is in them: the
 * owner backs them with memory (a sparse file) and is told when frames can be given back.
 *
 * Frames come in blocks of 512 (2 MiB). A run of whole blocks is aligned to them; a shorter run is
 * cut from a block that such runs share. A block is used again once all of it is free.
 *
 * Concurrency: the caller serializes all calls on a pool. Freestanding C11.
 */
#ifndef RAMET_POOL_H
#define RAMET_POOL_H

#include <stddef.h>
#include <stdint.h>

#define POOL_BLOCK_FRAMES 512u

struct pool_ops {
	/* Frames [first, first + n), all in one block, have no references any more. They are the
	 * owner's until he calls pool_free() on them, some time later: he may have memory to give
	 * back first, and locks to drop for that. */
	void (*idle)(void *ctx, uint64_t first, uint64_t n);
};

struct pool {
	const struct pool_ops *ops;
	void *ctx;
	uint64_t blocks;       /* capacity */
	uint64_t top;	       /* blocks from here on were never used: their frames read as zero */
	uint64_t small;	       /* the block that short runs are cut from, and */
	unsigned small_pos;    /* its first frame not handed out; POOL_BLOCK_FRAMES: none */
	uint64_t n_free;       /* blocks on the stack of free ones */
	uint64_t in_use, peak; /* frames with references */
	uint32_t *refs;	       /* [blocks * 512] */
	uint16_t *used;	       /* [blocks] frames in use */
	uint32_t *free;	       /* [blocks] the stack */
};

/* Bytes of zeroed memory for the counts of `blocks` blocks; untouched parts are never read, so it
 * may be sparse. */
size_t pool_memory(uint64_t blocks);
void pool_init(
	struct pool *p, uint64_t blocks, void *memory, const struct pool_ops *ops, void *ctx);

/* n frames in a row, each with one reference: n < 512, or a multiple of 512. Contents: anything. 0
 * or -ENOMEM. */
int pool_alloc(struct pool *p, uint64_t n, uint64_t *first);
/* The same for whole blocks of which nothing was ever used: they read as zero. */
int pool_alloc_zero(struct pool *p, uint64_t n, uint64_t *first);
/* One more / one less reference to each frame of [first, first + n). A count that would overflow or
 * start from 0, or fall below it, is a trap: memory would be shared by mistake. */
void pool_get(struct pool *p, uint64_t first, uint64_t n);
void pool_put(struct pool *p, uint64_t first, uint64_t n);

/* Idle frames, as ops.idle() named them, may be handed out again. */
void pool_free(struct pool *p, uint64_t first, uint64_t n);

static inline uint32_t pool_refs(const struct pool *p, uint64_t frame)
{
	return p->refs[frame];
}

#endif
