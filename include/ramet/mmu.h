/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Second-level page tables that are shared copy-on-write: on-demand fork (Zhao, Gong, Fonseca:
 * "On-demand-fork", EuroSys 2021) for guest-physical address spaces.
 *
 *     root ----> PML4 table ----> PDPT tables ----> PD tables ----> PTE tables ----> frames
 *                level 4          level 3           level 2         level 1
 *
 * A slot of a table is empty, a leaf (it names frames) or a link (it names a table). A table of
 * level n has 512 slots of 4 KiB << 9 * (n - 1) each; one PTE table covers a span of 2 MiB.
 *
 * Invariants (mmu_check() recomputes 1 to 3 from the roots):
 *  1. refs(table) = links to it from slots of distinct tables, and roots whose top it is.
 *  2. used(table) = its slots that are not empty.
 *  3. refs(frame) = leaves that name it, in distinct tables.
 *  4. A table with refs > 1 has no writer: nobody changes what it maps. Who must, breaks: copies
 * it, for himself.
 *  5. A link to a table with refs > 1 has W clear, and the links and leaves in a copied table and
 * in its original have W clear: permissions are ANDed over the levels (SDM vol. 3, 29.3.3.2; APM
 * vol. 2, 15.25.6), so one clear bit write-protects all that is below. `MMU_INTENT` in the entry
 * remembers that it may be written.
 *  6. refs 1 means reuse: set W, copy nothing.
 *  7. A table is complete before one store links it; an unlinked one is freed after.
 *
 * Errors: 0 or -errno as a number (-12: out of memory, -14: nothing mapped there, -22: bad
 * argument); what fails changes nothing that anybody can see (W bits may have been cleared early,
 * which costs a reuse).
 *
 * Concurrency: mutators of one `struct mmu` are serialized by the caller. mmu_translate() and
 * mmu_next_run() may run beside them as long as the caller frees tables late enough (ops.free_table
 * past all walkers).
 *
 * Freestanding C11: memory comes through ops.
 */
#ifndef RAMET_MMU_H
#define RAMET_MMU_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MMU_SLOTS     512u
#define MMU_LEVELS    4u
#define MMU_PAGE_SIZE 4096ull
#define MMU_SPAN_SIZE (2ull << 20)

/* Guest-physical addresses are not to be mixed up with others. */
typedef struct {
	uint64_t v;
} gpa_t;

static inline gpa_t gpa(uint64_t v)
{
	return (gpa_t){ v };
}

/* How an entry looks: EPT (SDM vol. 3, 29.3.2) or NPT (APM vol. 2, 5.3 and 15.25). */
struct mmu_format;
extern const struct mmu_format mmu_ept, mmu_npt;

/* What a leaf allows and how it is cached. */
struct mmu_attr {
	bool r, w, x;
	uint8_t memory_type; /* as in the PAT: 0 UC, 1 WC, 4 WT, 5 WP, 6 WB */
};

/* A table and its counts. The owner of the memory provides both, see ops. */
struct mmu_table {
	_Atomic uint64_t *slot; /* [MMU_SLOTS] */
	uint64_t phys;		/* what a link to it says: bits 51:12 */
	uint32_t refs;
	uint16_t used;
	uint8_t level;
	bool linear;   /* level 1: all 512 leaves are there, frames in a row, attributes alike */
	uint32_t seen; /* the checker's; 0 outside it */
};

struct mmu_ops {
	/* A table with all slots empty, slot and phys set; NULL: out of memory. */
	struct mmu_table *(*alloc_table)(void *ctx);
	void (*free_table)(void *ctx, struct mmu_table *t);
	struct mmu_table *(*table)(void *ctx, uint64_t phys);
	/* References to frames, by number (physical address >> 12). */
	void (*get_frames)(void *ctx, uint64_t first, uint64_t n);
	void (*put_frames)(void *ctx, uint64_t first, uint64_t n);
};

struct mmu {
	const struct mmu_format *format;
	const struct mmu_ops *ops;
	void *ctx;
	uint64_t tables[MMU_LEVELS + 1]; /* alive, by level */
	uint64_t breaks, reuses, shares; /* what copy-on-write has done */
};

struct mmu_root {
	struct mmu_table *top;
};

void mmu_init(
	struct mmu *mmu, const struct mmu_format *format, const struct mmu_ops *ops, void *ctx);

/* An empty address space. */
int mmu_root_init(struct mmu *mmu, struct mmu_root *root);
/* Gives up the root and all that only it had. */
void mmu_root_put(struct mmu *mmu, struct mmu_root *root);

/* Maps [at, at + n pages) to frames from `frame` on, with 4 KiB leaves. Takes over one reference to
 * each frame. What was mapped there is unmapped. */
int mmu_map(struct mmu *mmu, struct mmu_root *root, gpa_t at, uint64_t n, uint64_t frame,
	struct mmu_attr attr);
int mmu_unmap(struct mmu *mmu, struct mmu_root *root, gpa_t at, uint64_t n);

/* Where a walk of the processor would end: the frame, and what all levels together allow. -14:
 * nowhere. */
int mmu_translate(struct mmu *mmu, const struct mmu_root *root, gpa_t at, uint64_t *frame,
	struct mmu_attr *attr);

/*
 * Forks an address space. `share` is the highest level of tables that both share from then on: 1
 * (PTE tables, as the paper), 2, 3, 4 (everything: a root costs nothing but a count), or 0: none,
 * every table is copied (the classic way).
 */
enum { MMU_SHARE_NONE, MMU_SHARE_PTE, MMU_SHARE_PD, MMU_SHARE_PDPT, MMU_SHARE_ROOT };
int mmu_fork(struct mmu *mmu, struct mmu_root *src, unsigned share, struct mmu_root *dst);

/* dst's span at `at` becomes what src's is, by sharing its PTE table (or by being empty). */
int mmu_share_span(struct mmu *mmu, struct mmu_root *dst, struct mmu_root *src, gpa_t at);

/*
 * Replaces the leaves of a span that bitmap names (bit i of 512: page i) by frame[i], whose
 * references it takes over. The new table is built aside and published with one store.
 */
int mmu_overlay_span(struct mmu *mmu, struct mmu_root *root, gpa_t at, const uint64_t bitmap[8],
	const uint64_t frame[MMU_SLOTS], struct mmu_attr attr);

/* A stretch of addresses mapped to frames in a row, alike. */
struct mmu_run {
	gpa_t at;
	uint64_t frame, n_pages;
};
/* The first such stretch in [at, end), cut at end. False: nothing is mapped there. */
bool mmu_next_run(
	struct mmu *mmu, const struct mmu_root *root, gpa_t at, gpa_t end, struct mmu_run *run);

/* Tables that can be reached from a root: only from it, or from others too. */
struct mmu_root_stat {
	uint64_t own, shared;
};
void mmu_root_stat(struct mmu *mmu, const struct mmu_root *root, struct mmu_root_stat *st);

static inline uint64_t mmu_tables(const struct mmu *mmu)
{
	return mmu->tables[1] + mmu->tables[2] + mmu->tables[3] + mmu->tables[4];
}

/*
 * Recomputes every count from all n roots. seen[] (zeroed, one for each of n_frames) receives the
 * references to each frame, for the caller to compare with his. Every discrepancy is reported;
 * returns their number.
 */
typedef void mmu_report(
	void *arg, const char *what, uint64_t phys, uint64_t is, uint64_t should_be);
unsigned mmu_check(struct mmu *mmu, struct mmu_root *const *root, unsigned n, uint32_t *seen,
	uint64_t n_frames, mmu_report *report, void *arg);

#endif
