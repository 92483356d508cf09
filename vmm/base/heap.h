/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory of the process of a family: malloc(), and stacks. The kernel tells every KVM VM of the
 * process about each piece of memory that is unmapped. And while one thread changes the memory map,
 * or waits for that, all others that need its lock wait, too: if the lock is held by a guest's
 * thread that has lost its CPU to a thousand busy guests, that takes seconds.
 */
#ifndef RAMET_VMM_BASE_HEAP_H
#define RAMET_VMM_BASE_HEAP_H

#include <stddef.h>

/* From now on malloc() gives nothing back, and has one heap, which grows in large steps. To be
 * called before there are other threads. */
void heap_keep(void);
/* Grows the heap, so that `bytes` can be allocated without changing the memory map: for what
 * a thread needs when many guests run. Does nothing if there is no memory. */
void heap_reserve(size_t bytes);
/* Makes stacks for this many more threads (8 at most) that are created without attributes. The C
 * library keeps them (up to 40 MiB) and uses them again. */
void stacks_keep(unsigned n);

#endif
