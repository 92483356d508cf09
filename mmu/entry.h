/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Entries. Only this file and format.c know their bits.
 *
 *   63      59 58     54 53 52 51                 12 11  10  9  8  7  6    5  3 2 1 0
 *   +---------+---------+--+--+---------------------+---+---+--+--+--+----+----+-+-+-+
 *   |SVE      |         |PN|IN|  frame or table     |   |XU |D |A |PS|IPAT|MT  |X|W|R|    EPT
 *   |NX       |         |PN|IN|                     |       |  |  |PS|D  A|    |U|W|P|    NPT
 *   +---------+---------+--+--+---------------------+---+---+--+--+--+----+----+-+-+-+
 *
 * IN and PN are software bits. Both formats ignore them, whatever features are enabled: SDM vol. 3,
 * tables 29-1 to 29-6 (56:52); APM vol. 2, 5.3.3 (58:52 are available to software). In both formats
 * PS distinguishes a leaf of level 2 or 3 from a link.
 */
#ifndef RAMET_MMU_ENTRY_H
#define RAMET_MMU_ENTRY_H

#include "include/ramet/mmu.h"

#define MMU_INTENT (1ull << 52) /* writes are allowed, even if copy-on-write has cleared W */
#define MMU_PIN	   (1ull << 53)
#define MMU_OURS   (MMU_INTENT | MMU_PIN)
#define MMU_ADDR   0x000ffffffffff000ull
#define MMU_PS	   (1ull << 7)

#define EPT_R	 (1ull << 0)
#define EPT_W	 (1ull << 1)
#define EPT_X	 (1ull << 2)
#define EPT_TYPE (7ull << 3)
#define EPT_IPAT (1ull << 6)
#define EPT_A	 (1ull << 8)
#define EPT_D	 (1ull << 9)
#define EPT_XU	 (1ull << 10)
#define EPT_SVE	 (1ull << 63)

#define NPT_P	(1ull << 0)
#define NPT_W	(1ull << 1)
#define NPT_U	(1ull << 2)
#define NPT_PWT (1ull << 3)
#define NPT_PCD (1ull << 4)
#define NPT_A	(1ull << 5)
#define NPT_D	(1ull << 6)
/* The PAT bit (7 in a leaf of level 1, 12 in a larger leaf) is never set, see npt_leaf(). */
#define NPT_G  (1ull << 8)
#define NPT_NX (1ull << 63)

#define EPT_BITS (EPT_R | EPT_W | EPT_X | EPT_TYPE | EPT_IPAT | EPT_A | EPT_D | EPT_XU | EPT_SVE)
#define NPT_BITS (NPT_P | NPT_W | NPT_U | NPT_PWT | NPT_PCD | NPT_A | NPT_D | NPT_G | NPT_NX)

_Static_assert(MMU_ADDR == 0x000ffffffffff000ull, "bits 51:12");
_Static_assert(MMU_PS == 0x80, "page size: 7");
_Static_assert((MMU_OURS & ~(0x1full << 52)) == 0, "bits 56:52 are ignored by all formats");
_Static_assert((EPT_BITS & (MMU_OURS | MMU_ADDR | MMU_PS)) == 0, "no overlap");
_Static_assert((NPT_BITS & (MMU_OURS | MMU_ADDR | MMU_PS)) == 0, "no overlap");
/* SDM vol. 3, tables 29-2, 29-4 and 29-6. */
_Static_assert(EPT_R == 0x1 && EPT_W == 0x2 && EPT_X == 0x4, "read 0, write 1, execute 2");
_Static_assert(EPT_TYPE == 0x38 && EPT_IPAT == 0x40, "memory type 5:3, ignore PAT 6");
_Static_assert(EPT_A == 0x100 && EPT_D == 0x200, "accessed 8, dirty 9");
_Static_assert(EPT_XU == 0x400 && EPT_SVE == 0x8000000000000000ull, "user X 10, suppress #VE 63");
/* APM vol. 2, figures 5-20 to 5-29. */
_Static_assert(NPT_P == 0x1 && NPT_W == 0x2 && NPT_U == 0x4, "P 0, R/W 1, U/S 2");
_Static_assert(NPT_PWT == 0x8 && NPT_PCD == 0x10, "PWT 3, PCD 4");
_Static_assert(NPT_A == 0x20 && NPT_D == 0x40, "A 5, D 6");
_Static_assert(NPT_G == 0x100 && NPT_NX == 0x8000000000000000ull, "G 8, NX 63");

struct mmu_format {
	const char *name;
	uint64_t present; /* if all of these bits are clear, the slot is empty */
	uint64_t write, accessed, dirty;
	uint64_t link;	    /* the bits of a link that allows everything */
	uint64_t grants;    /* clearing one of these bits needs a flush */
	uint64_t denies;    /* setting one of these bits needs a flush */
	uint64_t type;	    /* any change of these bits needs a flush */
	uint64_t attr_bits; /* the bits that mmu_protect() replaces; it also clears W */
	/* Computes the bits of a leaf, without the address. False: the format has no such leaf. */
	bool (*leaf)(struct mmu_attr attr, unsigned level, uint64_t *bits);
	struct mmu_attr (*attr)(uint64_t leaf);
	const char *(*validate)(const struct mmu_caps *caps, unsigned level, uint64_t entry);
};

static inline bool is_empty(const struct mmu *m, uint64_t e)
{
	return !(e & m->format->present);
}

/* The entry must not be empty. */
static inline bool is_link(uint64_t e, unsigned level)
{
	return level > 1 && !(e & MMU_PS);
}

static inline bool is_leaf(const struct mmu *m, uint64_t e, unsigned level)
{
	return !is_empty(m, e) && !is_link(e, level);
}

static inline bool is_writable(const struct mmu *m, uint64_t e)
{
	return e & m->format->write;
}

static inline uint64_t frame_of(uint64_t e)
{
	return (e & MMU_ADDR) / MMU_PAGE_SIZE;
}

static inline uint64_t make_link(const struct mmu *m, const struct mmu_table *t)
{
	return t->phys | m->format->link | MMU_INTENT;
}

static inline uint64_t make_leaf(uint64_t frame, uint64_t bits)
{
	return frame * MMU_PAGE_SIZE | bits;
}

static inline uint64_t write_protected(const struct mmu *m, uint64_t e)
{
	return e & ~m->format->write;
}

/* A slot of level 1 covers 4 KiB. */
static inline unsigned level_shift(unsigned level)
{
	return 12 + MMU_SLOT_BITS * (level - 1);
}

static inline uint64_t level_size(unsigned level)
{
	return 1ull << level_shift(level);
}

static inline uint64_t level_pages(unsigned level)
{
	return level_size(level) / MMU_PAGE_SIZE;
}

static inline unsigned level_index(uint64_t at, unsigned level)
{
	return at >> level_shift(level) & (MMU_SLOTS - 1);
}

/* Returns entry i of a table that maps the same as e, a leaf of `level`; 0 if e is empty. */
static inline uint64_t piece_of(const struct mmu *m, uint64_t e, unsigned level, unsigned i)
{
	if (is_empty(m, e))
		return 0;
	return (level == 2 ? e & ~MMU_PS : e) + i * level_size(level - 1);
}

#endif
