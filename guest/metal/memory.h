/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine's memory: image | pages for tables and states (the arena) | frames for guests (the
 * pool). All of it is identity-mapped, so a physical address is a pointer.
 */
#ifndef METAL_MEMORY_H
#define METAL_MEMORY_H

#include "ramet/mmu.h"
#include "ramet/pool.h"

extern struct mmu mmu;
extern struct pool pool;
extern uint64_t pages_copied; /* by the breaking of copy-on-write */

/* The function that makes processors drop their cached translations of a root. smp.c has it: the
 * function needs all processors. */
typedef void memory_flush_fn(void *ctx, struct mmu_root *root, const struct mmu_flush *what);
void memory_init(memory_flush_fn *flush);
/* Serialize calls of mmu/ that two processors may make. After memory_concurrent() they do nothing:
 * then mmu/ itself allows such calls. memory_concurrent() must come before anything is mapped. */
void memory_lock(void);
void memory_unlock(void);
void memory_concurrent(void);
/* Recomputes all counts and validates all entries. Returns the number of errors. */
unsigned memory_check(struct mmu_root *const *root, unsigned n);
/* Returns a zeroed page of the arena, or NULL. */
void *page_new(void);
void page_put(void *page);
uint64_t pages_free(void);

/* The pool numbers its frames from 0, entries number frames by address. */
uint64_t frame_first(void);		     /* the number in entries of the pool's frame 0 */
int frames_new(uint64_t n, uint64_t *first); /* `first` is numbered as in entries */
static inline void *frame_pointer(uint64_t frame)
{
	return (void *)(frame * MMU_PAGE_SIZE);
}

#endif
