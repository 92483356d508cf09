/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The frame pool: reference counts of 4 KiB frames, numbered from 0. The pool does not access the
 * contents. The owner backs the frames with memory (a sparse file), and the pool tells the owner
 * when frames are no longer used.
 *
 * Frames come in blocks of 512 (2 MiB). A run of whole blocks starts at a block. Shorter runs share
 * a block. A block is used again only when all of its frames are free.
 *
 * Concurrency: the caller serializes all calls on a pool. Freestanding C11.
 */
#ifndef RAMET_POOL_H
#define RAMET_POOL_H

#include <stddef.h>
#include <stdint.h>

#define POOL_BLOCK_FRAMES 512u

struct pool_ops {
	/* Frames [first, first + n), all in one block, have lost their last reference. They belong
	 * to the owner until it calls pool_free() on them. It may do that later: it may first have
	 * to free their memory, and to release locks for that. */
	void (*idle)(void *ctx, uint64_t first, uint64_t n);
};

struct pool {
	const struct pool_ops *ops;
	void *ctx;
	uint64_t blocks;       /* capacity */
	uint64_t top;	       /* blocks from here on were never used: their frames read as zero */
	uint64_t small;	       /* the block that short runs come from */
	unsigned small_pos;    /* first frame of `small` not handed out; POOL_BLOCK_FRAMES: none */
	uint64_t n_free;       /* number of blocks on the stack `free` */
	uint64_t in_use, peak; /* frames with references */
	uint32_t *refs;	       /* [blocks * 512] */
	uint16_t *used;	       /* [blocks] frames handed out and not freed */
	uint32_t *free;	       /* [blocks] a stack of free blocks */
};

/* Size in bytes of the zeroed memory that the counts of `blocks` blocks need. The memory may be
 * sparse: the pool reads only the parts of blocks that were used. */
size_t pool_memory(uint64_t blocks);
void pool_init(
	struct pool *p, uint64_t blocks, void *memory, const struct pool_ops *ops, void *ctx);

/* Allocates n consecutive frames, each with one reference; n < 512, or a multiple of 512. Their
 * contents are undefined. Returns 0 or -ENOMEM. */
int pool_alloc(struct pool *p, uint64_t n, uint64_t *first);
/* The same for whole blocks that were never used before: they read as zero. */
int pool_alloc_zero(struct pool *p, uint64_t n, uint64_t *first);
/* Take / drop one reference to each frame of [first, first + n). A wrong count would share memory
 * by mistake, so these trap: a get on a frame with 0 references, an overflow, a put below 0. */
void pool_get(struct pool *p, uint64_t first, uint64_t n);
void pool_put(struct pool *p, uint64_t first, uint64_t n);

/* Frees frames that ops.idle() reported: the pool may hand them out again. */
void pool_free(struct pool *p, uint64_t first, uint64_t n);

static inline uint32_t pool_refs(const struct pool *p, uint64_t frame)
{
	return p->refs[frame];
}

#endif
