/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Entries: the only place that knows their bits.
 *
 *   63      59 58 57 56        52 51                 12 11  10  9  8  7  6 5  3 2 1 0
 *   +--------+--+--+------------+---------------------+---+---+--+--+--+--+----+-+-+-+
 *   |        |IN|LK|            |  frame or table     |   |XU |  |D |A |PS|IPAT|X|W|R|   EPT
 *   |NX      |IN|LK|            |                     |       |  |G |PS|D |A   |U|W|P|   NPT
 *   +--------+--+--+------------+---------------------+---+---+--+--+--+--+----+-+-+-+
 *
 * IN (58) and LK (57) are ours, in bits that both formats ignore: SDM vol. 3, tables 29-1 to 29-6
 * (57:52 and, unless their controls are on, 60:58); APM vol. 2, 5.3.3 (58:52 available to software,
 * 62:59 without memory protection keys).
 */
#ifndef RAMET_MMU_ENTRY_H
#define RAMET_MMU_ENTRY_H

#include "include/ramet/mmu.h"

#define MMU_INTENT (1ull << 58) /* may be written, whatever W says now: it is shared, or was */
#define MMU_LINK   (1ull << 57) /* names a table, not frames */
#define MMU_ADDR   0x000ffffffffff000ull

struct mmu_format {
	const char *name;
	uint64_t present; /* all bits of it clear: the slot is empty */
	uint64_t write;
	uint64_t link; /* a link to a table, everything allowed */
	uint64_t (*leaf)(struct mmu_attr attr);
	struct mmu_attr (*attr)(
		uint64_t entry); /* of a leaf, or of a link but for the memory type */
};

_Static_assert((MMU_ADDR & (MMU_INTENT | MMU_LINK)) == 0, "our bits are not in the address");
_Static_assert(MMU_ADDR >> 52 == 0 && (MMU_ADDR & (MMU_PAGE_SIZE - 1)) == 0, "bits 51:12");

static inline bool is_empty(const struct mmu *m, uint64_t e)
{
	return !(e & m->format->present);
}

static inline bool is_link(uint64_t e)
{
	return e & MMU_LINK;
}

static inline uint64_t frame_of(uint64_t e)
{
	return (e & MMU_ADDR) / MMU_PAGE_SIZE;
}

static inline uint64_t make_link(const struct mmu *m, const struct mmu_table *t)
{
	return t->phys | m->format->link | MMU_LINK | MMU_INTENT;
}

static inline uint64_t make_leaf(const struct mmu *m, uint64_t frame, struct mmu_attr attr)
{
	return frame * MMU_PAGE_SIZE | m->format->leaf(attr) | (attr.w ? MMU_INTENT : 0);
}

static inline uint64_t write_protected(const struct mmu *m, uint64_t e)
{
	return e & ~m->format->write;
}

/* Levels are numbers: 1 has 4 KiB slots. */
static inline unsigned level_shift(unsigned level)
{
	return 12 + 9 * (level - 1);
}

static inline uint64_t level_size(unsigned level)
{
	return 1ull << level_shift(level);
}

static inline unsigned level_index(gpa_t at, unsigned level)
{
	return at.v >> level_shift(level) & (MMU_SLOTS - 1);
}

#endif
