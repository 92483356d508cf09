/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine's memory: image | pages for tables and states (the arena) | frames for guests (the
 * pool). Everything is mapped where it is, so a physical address is a pointer.
 */
#ifndef METAL_MEMORY_H
#define METAL_MEMORY_H

#include "ramet/mmu.h"
#include "ramet/pool.h"

extern struct mmu mmu;
extern struct pool pool;
extern uint64_t pages_copied; /* by the breaking of copy-on-write */

/* How the processors drop what they have cached of a root: it needs all of them (smp.c). */
typedef void memory_flush_fn(void *ctx, struct mmu_root *root, const struct mmu_flush *what);
void memory_init(memory_flush_fn *flush);
/* Around calls of mmu/ where two processors may make them; nothing after memory_concurrent(), when
 * mmu/ has to cope. That comes before anything is mapped. */
void memory_lock(void);
void memory_unlock(void);
void memory_concurrent(void);
/* Recomputes all counts, and looks at all entries; how many are wrong. */
unsigned memory_check(struct mmu_root *const *root, unsigned n);
/* A zeroed page of the arena, or NULL. */
void *page_new(void);
void page_put(void *page);
uint64_t pages_free(void);

/* The pool's frames are numbered from 0, those in entries by address. */
uint64_t frame_first(void);		     /* the number in an entry of the pool's frame 0 */
int frames_new(uint64_t n, uint64_t *first); /* as entries number them */
static inline void *frame_pointer(uint64_t frame)
{
	return (void *)(frame * MMU_PAGE_SIZE);
}

#endif
