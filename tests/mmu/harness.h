/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine to test the table library: tables and frames that can run out, a flat model of what
 * each root maps, and a TLB for each root that forgets only what is flushed. After each operation
 * the tables, the model and the TLBs are compared completely.
 *
 * Compiled together with mmu/ for small tables (MMU_SLOT_BITS 1 or 2), so that there is little to
 * compare and large leaves are small.
 */
#ifndef RAMET_TESTS_MMU_HARNESS_H
#define RAMET_TESTS_MMU_HARNESS_H

#include "include/ramet/mmu.h"

#define H_ROOTS	  10u
#define H_PAGES	  (1u << (4 * MMU_SLOT_BITS))
#define H_FRAMES  (H_PAGES * 64)
#define H_TABLES  4096u
#define H_REGIONS 2u

/* The expected state of a page of a root. */
struct h_page {
	bool mapped, r, w, x, ipat, sve, pinned, accessed, dirty;
	uint8_t type;
	uint32_t value, frame; /* frame: for pinned pages, which must not move */
};

/* What a processor has cached for a page, and for the tables on the way (by their level). */
struct h_tlb {
	bool valid, w, dirty;
	uint32_t frame;
};

struct h_psc {
	struct mmu_table *table; /* NULL: nothing */
	bool w;
};

struct h_root {
	bool live;
	struct mmu_root root;
	struct mmu_table *top; /* the top table that the processor uses */
	struct h_page page[H_PAGES];
	struct h_tlb tlb[H_PAGES];
	struct h_psc psc[4][H_PAGES]; /* [level][address >> shift of that level's table] */
	struct mmu_region region[H_REGIONS];
};

struct harness {
	struct mmu mmu;
	struct h_root root[H_ROOTS];
	_Atomic uint64_t slots[H_TABLES][MMU_SLOTS];
	struct mmu_table table[H_TABLES];
	bool table_live[H_TABLES];
	uint32_t free_table[H_TABLES], n_free_tables, n_tables;
	uint32_t refs[H_FRAMES], value[H_FRAMES], in_use;
	uint32_t seen[H_FRAMES];
	uint32_t next_value;
	int fail_after; /* this many allocations succeed, then one fails; negative: none fails */
	unsigned flushes;
	struct mmu_visit visit; /* a visit that is under way */
	bool visiting;
};

/* One operation. Every combination of bytes is valid. Below H_FAILS, `fail` is twice the number of
 * allocations that succeed before one fails. */
#define H_FAILS 64u
struct h_op {
	uint8_t code, root, other, at, n, arg, fail;
};

enum h_code {
	H_MAP,
	H_UNMAP,
	H_DISCARD,
	H_PROTECT,
	H_SPLIT,
	H_MERGE,
	H_FORK,
	H_PUT,
	H_WRITE,
	H_READ,
	H_PIN,
	H_UNPIN,
	H_HARVEST,
	H_SHARE_SPAN,
	H_OVERLAY,
	H_RECLAIM,
	H_NEW,
	H_REGION,
	H_DIFF,
	H_VISIT,
	H_DEVICE_WRITE,
	H_SCHEME,
	H_CODES
};

/* Prints the reason and calls abort(). */
#define h_require(what)                                   \
	do {                                              \
		if (!(what))                              \
			h_die(__FILE__, __LINE__, #what); \
	} while (0)
_Noreturn void h_die(const char *file, int line, const char *what);

/* Starts with one root. */
void h_start(struct harness *h, const struct mmu_format *format);
/* Puts all roots, and checks that nothing is left. */
void h_end(struct harness *h);
/* Runs an operation and its model. Returns the library's result. Makes no checks afterwards. */
int h_run(struct harness *h, const struct h_op *op);
/* Compares tables, model and TLBs completely. */
void h_check(struct harness *h);

/* Returns consecutive frames with one reference each, aligned to the next power of 2 from n on. */
uint32_t h_alloc_frames(struct harness *h, uint32_t n);
void h_put_frames(struct harness *h, uint32_t first, uint32_t n);

/* An access by a guest, through the TLB. False: not mapped, or not allowed. */
bool h_guest_read(struct harness *h, struct h_root *r, unsigned page);
bool h_guest_write(struct harness *h, struct h_root *r, unsigned page);

#endif
