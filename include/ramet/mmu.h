/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Second-level page tables that are shared copy-on-write: on-demand fork (Zhao, Gong, Fonseca:
 * "On-demand-fork", EuroSys 2021) for guest-physical address spaces, at any level of the tree.
 *
 *     root ----> PML4 table ----> PDPT tables ----> PD tables ----> PTE tables ----> frames
 *                level 4          level 3           level 2         level 1
 *
 * A slot of a table is empty, a leaf (it names frames) or a link (it names a table). A slot of
 * level n covers 4 KiB << 9 * (n - 1); one PTE table covers a span of 2 MiB. Leaves are of level 1,
 * 2 or 3: 4 KiB, 2 MiB, 1 GiB. docs/tables.md has the picture, the locks and the reasons.
 *
 * Invariants (mmu_check() recomputes 1 to 5 from the roots):
 *  1. refs(table) = links to it from slots of distinct tables, and roots whose top it is.
 *  2. used(table) = its slots that are not empty.
 *  3. refs(frame) = leaves that name it, in distinct tables.
 *  4. pins(table) = pinned pages below it; a table with pins has refs 1.
 *  5. A link to a table with refs > 1 has W clear; so have the links and leaves of a copied
 *     table and of its original, and the links in a top table that roots share. Permissions are
 *     ANDed over the levels (SDM vol. 3, 29.3.3.2; APM vol. 2, 15.25.6), so one clear bit
 *     write-protects all below it. A bit of ours in the entry remembers that it may be written.
 *  6. A table with refs > 1 has no writer. Who must write breaks: copies it, for himself.
 *  7. refs 1 means reuse: set W, copy nothing.
 *  8. A table is complete before one store links it. One that is unlinked, and a frame no longer
 *     mapped, is given up after the flush, and its memory and lock past all walkers.
 *
 * Errors: 0 or one of `enum mmu_error`. What fails changes no translation, leaks nothing and leaves
 * outputs alone; tables may have been broken on the way, as by a write.
 *
 * Concurrency: after mmu_init() the caller serializes all calls on one `struct mmu`, and pays for
 * no lock or atomic. After mmu_concurrent() any thread may call anything on any root at any time,
 * but for mmu_root_put() (nobody else may use that root) and mmu_check() (nobody may mutate):
 * - mmu_translate(), mmu_visit(), mmu_iterate(), mmu_next_run(), mmu_diff() take no lock;
 * - mmu_fault(), and what changes no more than one span, take the root's lock shared, and the locks
 *   of the tables they change;
 * - forks and changes of longer ranges take the root's lock exclusively.
 * The processor's own page walks are such walkers, kept safe by ops.flush.
 *
 * Freestanding C11: memory comes through ops. A struct mmu stays where it was initialized.
 */
#ifndef RAMET_MMU_H
#define RAMET_MMU_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "include/ramet/gpa.h"

/* Tests shrink the tables to make everything enumerable; the formats know only 9. */
#ifndef MMU_SLOT_BITS
#define MMU_SLOT_BITS 9
#endif
#define MMU_SLOTS     (1u << MMU_SLOT_BITS)
#define MMU_LEVELS    4u
#define MMU_PAGE_SIZE 4096ull
#define MMU_SPAN_SIZE (MMU_PAGE_SIZE << MMU_SLOT_BITS)

enum mmu_error {
	MMU_NO_MEMORY = -12,  /* numbers as -ENOMEM, */
	MMU_DENIED = -13,     /* -EACCES: the leaf does not allow it */
	MMU_NOT_MAPPED = -14, /* -EFAULT */
	MMU_BUSY = -16,	      /* -EBUSY: a page is pinned */
	MMU_INVALID = -22,    /* -EINVAL: a range or an attribute that the format does not have */
};

/* How an entry looks: EPT (SDM vol. 3, 29.3.2) or NPT (APM vol. 2, 5.3 and 15.25). */
struct mmu_format;
extern const struct mmu_format mmu_ept, mmu_npt;

/* What a leaf allows and how it is cached. */
struct mmu_attr {
	bool r, w, x; /* w needs r. NPT: r is implied */
	/* 0 UC, 1 WC, 4 WT, 5 WP, 6 WB, as in the MTRRs. NPT: through the PAT as it is after reset,
	 * which has no WC and WP. */
	uint8_t memory_type;
	bool ignore_pat;  /* EPT: the guest's PAT has no say */
	bool suppress_ve; /* EPT: a violation exits even where #VE is enabled */
	bool accessed, dirty;
	/* mmu_map(): the highest level of leaves to use where alignment allows, 1..3; 0 means 1.
	 * Looking: the level of the leaf. */
	uint8_t level;
};

/* A table and its counts. The owner of the memory provides both, see ops. */
struct mmu_table {
	_Atomic uint64_t *slot; /* [MMU_SLOTS] */
	uint64_t phys;		/* what a link to it says: bits 51:12 */
	_Atomic uint32_t refs;	/* sharers: links and roots */
	uint32_t pins;
	_Atomic uint32_t walkers; /* visits, and 1 while it is linked; see scheme.c */
	uint32_t id;		  /* scheme mmu_percpu: index into mmu_cpu.walkers */
	_Atomic uint16_t used;
	_Atomic uint16_t in_use; /* a slot that was not empty: scheme mmu_scan's */
	uint8_t level;
	_Atomic bool linear; /* level 1: all leaves are there, their frames in a row */
	_Atomic uint8_t lock;
	uint8_t held;	   /* changes of it that have dropped its lock for a moment */
	_Atomic bool dead; /* unlinked: who locks it and finds it so starts again at the root */
	uint32_t seen;	   /* the checker's; 0 outside it */
	struct mmu_table *next; /* dead ones, in the order of */
	uint64_t epoch;		/* their death */
#ifdef MMU_DEBUG
	_Atomic uint64_t seal; /* a hash of what it maps, while it is shared */
#endif
};

struct mmu_root;

/*
 * What must be invalidated, and where: in the root that has the duty, and nowhere else.
 *
 * EPT (SDM vol. 3, 29.4.3): INVEPT single-context with the root's EPTP; there is no narrower one, a
 * range helps whoever keeps shadows. NPT (APM vol. 2, 15.16): flush the ASIDs that run on the root.
 * Nothing is due for what was not present before, nor for more permissions: a violation drops the
 * stale translation itself (SDM 29.4.3.1; APM 5.5.2).
 */
struct mmu_flush {
	enum { MMU_FLUSH_NOTHING, MMU_FLUSH_RANGE, MMU_FLUSH_ROOT } kind;
	gpa_t from, to; /* of a range: [from, to) */
	bool moved;	/* mmu_root_phys() is another one now: load it, and flush the old one */
};

/* A stretch of guest-physical memory that is of a kind. */
struct mmu_region {
	gpa_t at;
	uint64_t n;	/* pages */
	unsigned share; /* the highest level of tables that forks share in it, see mmu_fork() */
};

#define MMU_KEEP_MAX 8u

/* An address space. The members are the library's, but for region and n_regions. */
struct mmu_root {
	struct mmu_table *_Atomic top;
	/* Sorted, not overlapping, the caller's memory; inherited by forks. A table is shared only
	 * if one region covers all of it. NULL: all is one region that may be shared at any level.
	 */
	const struct mmu_region *region;
	unsigned n_regions;
	struct mmu_flush duty; /* see mmu_flush_take() */
	_Atomic uint32_t lock; /* shared by so many; MMU_EXCLUSIVE: held alone */
	_Atomic uint8_t top_lock;
	uint8_t n_kept;
	gpa_t kept[MMU_KEEP_MAX]; /* spans whose tables were left in place though empty */
};

struct mmu_ops {
	/* A table with all slots empty, slot and phys set (and id); NULL: out of memory. */
	struct mmu_table *(*alloc_table)(void *ctx);
	void (*free_table)(void *ctx, struct mmu_table *t);
	struct mmu_table *(*table)(void *ctx, uint64_t phys);
	/* References to frames, by number (physical address >> 12). */
	void (*get_frames)(void *ctx, uint64_t first, uint64_t n);
	void (*put_frames)(void *ctx, uint64_t first, uint64_t n);

	/* For mmu_fault() and mmu_pin(). Does any of these have more than one reference? NULL: yes.
	 */
	bool (*frames_shared)(void *ctx, uint64_t first, uint64_t n);
	/* A new frame with the same contents and one reference. 0 or MMU_NO_MEMORY. NULL: pages are
	 * never copied, mmu_fault() says MMU_DENIED then. */
	int (*copy_frame)(void *ctx, uint64_t frame, uint64_t *copy);

	/* Invalidate now, on all processors: what is unmapped is given up as soon as this returns.
	 * No table lock is held. NULL: duties add up in the root, for mmu_flush_take(), which is
	 * enough if no processor runs on any root between a call and the flush. */
	void (*flush)(void *ctx, struct mmu_root *root, const struct mmu_flush *what);

	/* For mmu_concurrent(). Whose mmu_cpu the caller may use: nobody else may at the same time.
	 */
	unsigned (*cpu)(void *ctx);
	/* While waiting for another thread; NULL: a PAUSE. */
	void (*relax)(void *ctx);
};

/* How empty tables are noticed, and how long walkers keep them alive. */
struct mmu_scheme;
extern const struct mmu_scheme mmu_none;   /* mmu_discard() leaves empty tables where they are */
extern const struct mmu_scheme mmu_scan;   /* scans for emptiness; frees after a grace period */
extern const struct mmu_scheme mmu_atomic; /* counts slots, and visits, in the table */
extern const struct mmu_scheme mmu_percpu; /* counts visits per CPU until the table dies */

const char *mmu_scheme_name(const struct mmu_scheme *scheme);

/* What a thread (CPU) that walks has to itself. Zeroed at first. */
struct mmu_cpu {
	_Alignas(64) _Atomic uint64_t epoch; /* when its present walk began; 0: none */
	unsigned depth;			     /* of walks within walks */
	_Atomic int32_t *walkers; /* mmu_percpu: one for each table there can be, zeroed */
};

struct mmu {
	const struct mmu_format *format;
	const struct mmu_ops *ops;
	void *ctx;
	const struct mmu_scheme *scheme; /* mmu_scan unless told otherwise */
	unsigned keep; /* how many empty tables a root keeps at hand, <= MMU_KEEP_MAX: hysteresis */
	struct mmu_cpu *cpu; /* NULL: calls are serialized */
	unsigned n_cpus;
	_Atomic uint64_t tables[MMU_LEVELS + 1]; /* alive, by level */
	_Atomic uint64_t breaks, reuses, shares; /* what copy-on-write has done */
	_Atomic uint64_t epoch;
	_Atomic uint8_t limbo_lock;
	struct mmu_table *limbo, **limbo_end; /* dead tables, oldest first */
};

void mmu_init(
	struct mmu *mmu, const struct mmu_format *format, const struct mmu_ops *ops, void *ctx);
/* Before anything is mapped: from now on calls come from n CPUs at once. Needs ops.cpu. */
void mmu_concurrent(struct mmu *mmu, struct mmu_cpu *cpu, unsigned n);

/* An empty address space. */
int mmu_root_init(struct mmu *mmu, struct mmu_root *root);
/* Gives up the root and all that only it had, pinned or not. No flush is asked for: no processor
 * may run on it any more, and its EPTP or ASID is flushed before it is used for another one. */
void mmu_root_put(struct mmu *mmu, struct mmu_root *root);
/* What goes into bits 51:12 of EPTP or nCR3. */
uint64_t mmu_root_phys(const struct mmu_root *root);

/* What is due in this root since the last time, if there is no ops.flush. */
struct mmu_flush mmu_flush_take(struct mmu_root *root);

/* ---- mapping. Ranges are n pages of 4 KiB from the page-aligned `at` ---- */

/* Maps to frames from `frame` on, taking over one reference to each. What was there is unmapped.
 * Flush: what was mapped there. */
int mmu_map(struct mmu *mmu, struct mmu_root *root, gpa_t at, uint64_t n, uint64_t frame,
	struct mmu_attr attr);
/* Tables that become empty go. Flush: what was mapped there. */
int mmu_unmap(struct mmu *mmu, struct mmu_root *root, gpa_t at, uint64_t n);
/* The same, but it is up to mmu.scheme and mmu.keep whether empty tables go: whoever discards pages
 * may well touch them again. */
int mmu_discard(struct mmu *mmu, struct mmu_root *root, gpa_t at, uint64_t n);
/* Empty tables that were kept go. */
void mmu_reclaim(struct mmu *mmu, struct mmu_root *root);
/* Changes r, w, x, the memory type, ignore_pat and suppress_ve of what is mapped. `w` sets W only
 * once copy-on-write allows: see mmu_fault(). Flush: where it takes something away. */
int mmu_protect(struct mmu *mmu, struct mmu_root *root, gpa_t at, uint64_t n, struct mmu_attr attr);

/* After this no leaf in the range is of a level above `level` (1 or 2). Flush: what was split. */
int mmu_split(struct mmu *mmu, struct mmu_root *root, gpa_t at, uint64_t n, unsigned level);
/* Makes leaves of up to `level` (2 or 3) of tables that lie in the range, map frames in a row,
 * aligned, are alike and have no pins. Flush: what was merged. */
int mmu_merge(struct mmu *mmu, struct mmu_root *root, gpa_t at, uint64_t n, unsigned level);

/*
 * Pinned pages may be written by somebody who does not walk the tables (a device). Pinning breaks
 * what is shared, frames included; a table with pins is never shared but copied at fork, the page
 * with it, to a frame of its own. MMU_BUSY: pinned already; and from whatever would unmap one.
 */
int mmu_pin(struct mmu *mmu, struct mmu_root *root, gpa_t at, uint64_t n);
int mmu_unpin(struct mmu *mmu, struct mmu_root *root, gpa_t at, uint64_t n);

/* ---- faults ---- */

enum mmu_access { MMU_READ, MMU_WRITE, MMU_EXECUTE };

/*
 * Makes an access possible that the processor was denied, if the leaf allows it: breaks shared
 * tables on the way to `at`, and copies the page (4 KiB of it) if others have the frame too. 0: go
 * on; *frame (may be NULL) says where `at` is now. MMU_NOT_MAPPED, MMU_DENIED, MMU_NO_MEMORY.
 * Flush: the spans of the tables that were copied, the page that was copied; nothing if both were
 * reused.
 */
int mmu_fault(
	struct mmu *mmu, struct mmu_root *root, gpa_t at, enum mmu_access access, uint64_t *frame);
/* The same ahead of a write by the hypervisor itself. */
int mmu_touch_write(struct mmu *mmu, struct mmu_root *root, gpa_t at, uint64_t *frame);

/* ---- forks ---- */

/*
 * Forks an address space. `share` is the highest level of tables that both share from then on: 1
 * (PTE tables, as the paper), 2, 3, 4 (everything: a root costs nothing but a count), or 0: none,
 * every table is copied (the classic way). Shared are tables that lie in one region whose own
 * `share` allows it, and that have no pins. Flush: src as a whole if any W was cleared, also when
 * it failed.
 */
enum { MMU_SHARE_NONE, MMU_SHARE_PTE, MMU_SHARE_PD, MMU_SHARE_PDPT, MMU_SHARE_ROOT };
int mmu_fork(struct mmu *mmu, struct mmu_root *src, unsigned share, struct mmu_root *dst);

/* dst's span at `at` becomes what src's is, by sharing its PTE table (or by being empty). MMU_BUSY:
 * there are pinned pages in one of them. Flush: the span, in dst; in src too if W was cleared. */
int mmu_share_span(struct mmu *mmu, struct mmu_root *dst, struct mmu_root *src, gpa_t at);

/*
 * Replaces the leaves of a span that bitmap names (bit i: page i) by frame[i], whose references it
 * takes over. The new table is built aside and published with one store.
 */
#define MMU_BITMAP ((MMU_SLOTS + 63) / 64)
int mmu_overlay_span(struct mmu *mmu, struct mmu_root *root, gpa_t at,
	const uint64_t bitmap[MMU_BITMAP], const uint64_t frame[MMU_SLOTS], struct mmu_attr attr);

/* ---- looking ---- */

/* Where a walk of the processor would end: the frame of `at`, and what all levels together allow.
 * MMU_NOT_MAPPED. */
int mmu_translate(struct mmu *mmu, const struct mmu_root *root, gpa_t at, uint64_t *frame,
	struct mmu_attr *attr);

/* A leaf as it is found. */
struct mmu_leaf {
	gpa_t at;
	uint64_t frame;
	struct mmu_attr attr; /* what all levels together allow; level */
	bool may_write;	      /* w, but for copy-on-write */
	bool shared;	      /* some table on the way to it is */
	bool pinned;
};
/* Calls fn for each leaf in the range, in order, until it returns other than 0; returns that.
 * Callbacks of this library must not change tables. */
typedef int mmu_leaf_fn(void *arg, const struct mmu_leaf *leaf);
int mmu_iterate(struct mmu *mmu, const struct mmu_root *root, gpa_t at, uint64_t n, mmu_leaf_fn *fn,
	void *arg);

/* A stretch of addresses mapped to frames in a row. */
struct mmu_run {
	gpa_t at;
	uint64_t frame, n_pages;
};
/* The first such stretch in [at, end), cut at end. False: nothing is mapped there. */
bool mmu_next_run(
	struct mmu *mmu, const struct mmu_root *root, gpa_t at, gpa_t end, struct mmu_run *run);

/*
 * Reports the leaves in the range that were accessed or dirtied, and clears what is reported if
 * told to (tables that are shared are broken for it). The processor sets the bits: EPT if EPTP
 * bit 6 says so, NPT always. Flush: where bits were cleared, for without it they may not be set
 * again (SDM vol. 3, 29.3.5). Callbacks come when nothing can fail any more.
 */
enum { MMU_HARVEST_ACCESSED = 1, MMU_HARVEST_DIRTY = 2, MMU_HARVEST_CLEAR = 4 };
int mmu_harvest(struct mmu *mmu, struct mmu_root *root, gpa_t at, uint64_t n, unsigned what,
	mmu_leaf_fn *fn, void *arg);

/*
 * Calls fn for each stretch [at, at + n pages) that a and b translate differently: to other frames,
 * or with other attributes (W cleared by copy-on-write, A and D aside). Subtrees that both share
 * are not looked at. A NULL leaf: not mapped. Returns as mmu_iterate(). *visited (may be NULL): how
 * many tables were read.
 */
typedef int mmu_diff_fn(
	void *arg, gpa_t at, uint64_t n, const struct mmu_leaf *a, const struct mmu_leaf *b);
int mmu_diff(struct mmu *mmu, const struct mmu_root *a, const struct mmu_root *b, mmu_diff_fn *fn,
	void *arg, uint64_t *visited);

/* A PTE table that is kept alive, wherever it is linked by now, until mmu_visit_end() on the same
 * CPU. */
struct mmu_visit {
	struct mmu_table *table; /* to be read */
	struct mmu_cpu *walk;
};
/* False: there is none for `at`. */
bool mmu_visit(struct mmu *mmu, const struct mmu_root *root, gpa_t at, struct mmu_visit *visit);
void mmu_visit_end(struct mmu *mmu, struct mmu_visit *visit);

/* What can be reached from a root. */
struct mmu_root_stat {
	uint64_t own, shared; /* tables: only this root has them, or others too */
	uint64_t tables[MMU_LEVELS + 1], leaves[MMU_LEVELS + 1]; /* by level */
	uint64_t empty;						 /* PTE tables with no leaf */
	uint64_t pinned;					 /* pages */
};
void mmu_root_stat(struct mmu *mmu, const struct mmu_root *root, struct mmu_root_stat *st);

/* One line for each table and each run of leaves that are alike. */
typedef void mmu_line_fn(void *arg, const char *line);
void mmu_dump(struct mmu *mmu, const struct mmu_root *root, mmu_line_fn *line, void *arg);

static inline uint64_t mmu_tables(const struct mmu *mmu)
{
	return mmu->tables[1] + mmu->tables[2] + mmu->tables[3] + mmu->tables[4];
}

/* Waits until no walk that was under way is, and frees what waited for that. Not from within one.
 */
void mmu_quiesce(struct mmu *mmu);

/* ---- checking ---- */

/* What a processor has and how it is set up: it decides which bits are reserved. */
struct mmu_caps {
	uint8_t phys_bits; /* MAXPHYADDR */
	bool page_2m, page_1g;
	bool execute_only;	 /* IA32_VMX_EPT_VPID_CAP bit 0 */
	bool mode_based_execute; /* EPT: the control is on, bit 10 counts */
	bool no_execute;	 /* NPT: EFER.NXE of the host */
};

/* Why the processor would refuse an entry (EPT misconfiguration, reserved bits), or NULL. */
const char *mmu_validate(const struct mmu_format *format, const struct mmu_caps *caps,
	unsigned level, uint64_t entry);

/*
 * Recomputes every count from all n roots. seen[] (zeroed, one for each of n_frames) receives the
 * references to each frame, for the caller to compare with his. Every discrepancy is reported;
 * returns their number.
 */
typedef void mmu_report(
	void *arg, const char *what, uint64_t phys, uint64_t is, uint64_t should_be);
unsigned mmu_check(struct mmu *mmu, struct mmu_root *const *root, unsigned n, uint32_t *seen,
	uint64_t n_frames, mmu_report *report, void *arg);
/* mmu_validate() on every entry of a root, reported with the table and the entry. */
unsigned mmu_check_format(struct mmu *mmu, const struct mmu_root *root, const struct mmu_caps *caps,
	mmu_report *report, void *arg);

#endif
