/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Units of memory. A span is the range that one PTE table maps.
 *
 * Each kind of address has a type of its own, so that the compiler refuses one in place of another.
 * Numbers of bytes, pages or spans are plain integers.
 */
#ifndef RAMET_VMM_BASE_UNITS_H
#define RAMET_VMM_BASE_UNITS_H

#include <stdint.h>

#define SPAN_SHIFT 21
#define SPAN_SIZE  (1ull << SPAN_SHIFT)
#define PAGE_SIZE  4096u
#define SPAN_PAGES 512u

/* A byte of a VM's RAM, numbered from 0 without the hole below 4 GiB: see ram.h. */
typedef struct {
	uint64_t v;
} ram_off_t;

static inline ram_off_t ram_off(uint64_t v)
{
	return (ram_off_t){ v };
}

static inline ram_off_t off_add(ram_off_t off, uint64_t bytes)
{
	return ram_off(off.v + bytes);
}

/* A span of a VM's RAM, numbered from 0. */
typedef struct {
	uint64_t v;
} span_t;

static inline span_t span_nr(uint64_t n)
{
	return (span_t){ n };
}

static inline span_t span_add(span_t span, uint64_t n)
{
	return span_nr(span.v + n);
}

/* Where a span begins. */
static inline ram_off_t span_off(span_t span)
{
	return ram_off(span.v << SPAN_SHIFT);
}

/* Which span, and which of its pages, a byte is in. */
static inline span_t span_of(ram_off_t off)
{
	return span_nr(off.v >> SPAN_SHIFT);
}

static inline unsigned page_of(ram_off_t off)
{
	return (unsigned)(off.v % SPAN_SIZE / PAGE_SIZE);
}

/* Spans that RAM of this size has. */
static inline uint64_t spans_in(uint64_t size)
{
	return size >> SPAN_SHIFT;
}

/* A frame: page v of the pool's file. */
typedef struct {
	uint64_t v;
} frame_t;

static inline frame_t frame_add(frame_t frame, uint64_t n)
{
	return (frame_t){ frame.v + n };
}

/* Where a frame is in the pool's file. */
static inline uint64_t frame_pos(frame_t frame)
{
	return frame.v * PAGE_SIZE;
}

#endif
