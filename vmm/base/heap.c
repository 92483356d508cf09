// SPDX-License-Identifier: Apache-2.0
#include "vmm/base/heap.h"

#include <limits.h>
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>

#include "vmm/base/futex.h"

#define MMAP_THRESHOLD (32 << 20) /* the most that glibc accepts */
#define PIECE	       (1u << 20)
#define PIECES_MAX     64u
#define PAGE	       4096u
#define STACKS_MAX     8u

void heap_keep(void)
{
	mallopt(M_ARENA_MAX, 1);
	mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD);
	mallopt(M_TRIM_THRESHOLD, INT_MAX);
	mallopt(M_TOP_PAD, PIECE);
}

void heap_reserve(size_t bytes)
{
	volatile uint8_t *piece[PIECES_MAX];
	unsigned n = 0;

	while (n < PIECES_MAX && n * (size_t)PIECE < bytes) {
		piece[n] = malloc(PIECE);
		if (!piece[n])
			break;
		for (size_t i = 0; i < PIECE; i += PAGE)
			piece[n][i] = 0; /* or its first use would need the lock */
		n++;
	}
	while (n)
		free((void *)piece[--n]);
}

static void *await_go(void *arg)
{
	atomic_uint *go = arg;

	while (!atomic_load(go))
		futex_wait(go, 0, 0);
	return NULL;
}

void stacks_keep(unsigned n)
{
	pthread_t thread[STACKS_MAX];
	atomic_uint go = 0;
	unsigned made = 0;

	/* All at the same time: otherwise they would have the same stack. */
	while (made < n && made < STACKS_MAX && !pthread_create(&thread[made], NULL, await_go, &go))
		made++;
	atomic_store(&go, 1);
	futex_wake_all(&go);
	while (made)
		pthread_join(thread[--made], NULL);
}
