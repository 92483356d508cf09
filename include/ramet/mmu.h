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
 * Words: to *break* a shared table is to copy it, so that a root gets a copy of its own. A table is
 * a root's *own* if no other root can reach it.
 *
 * Invariants (mmu_check() recomputes 1 to 5 from the roots):
 *  1. refs(table) = the number of links to it (from slots of distinct tables), plus the number of
 *     roots that have it as their top table.
 *  2. used(table) = the number of its slots that are not empty.
 *  3. refs(frame) = the number of leaves that name it, in distinct tables.
 *  4. pins(table) = the number of pinned pages below it; a table with pins has refs 1.
 *  5. W is clear in each link to a table with refs > 1, in the links and leaves of a copied table
 *     and of its original, and in the links of a top table that roots share. Permissions are
 *     ANDed over the levels (SDM vol. 3, 29.3.3.2; APM vol. 2, 15.25.6), so one clear bit
 *     write-protects everything below it. A software bit in the entry (MMU_INTENT) remembers
 *     that writes are allowed.
 *  6. A table with refs > 1 is not written. A root that must change such a table breaks it first.
 *  7. A table with refs 1 is reused: W is set, nothing is copied.
 *  8. A table is complete before one store links it. The reference to an unlinked table or to an
 *     unmapped frame is dropped only after the flush. A table's memory and lock are freed only
 *     when no walker can reach them any more.
 *
 * Errors: functions return 0 or one of `enum mmu_error`. A call that fails changes no translation,
 * leaks nothing and does not write its outputs. It may have broken tables, as a write would.
 *
 * Concurrency: after mmu_init() the caller serializes all calls on one `struct mmu`, and no call
 * uses a lock or an atomic operation. After mmu_concurrent() any thread may call any function on
 * any root at any time, with two exceptions: during mmu_root_put() no other thread may use that
 * root, and during mmu_check() no thread may change anything.
 * - mmu_translate(), mmu_visit(), mmu_iterate(), mmu_next_run(), mmu_diff() take no lock;
 * - mmu_fault(), and changes within one span, take the root's lock shared, and the locks of the
 *   tables that they change;
 * - forks and changes of longer ranges take the root's lock exclusively.
 * The processor's page walks take no lock either; ops.flush keeps them safe.
 *
 * Freestanding C11: memory comes through ops. A struct mmu must not be moved in memory after
 * mmu_init().
 */
#ifndef RAMET_MMU_H
#define RAMET_MMU_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "include/ramet/gpa.h"

/* Tests use smaller tables, so that they can try all cases. The processors' formats have 9 bits. */
#ifndef MMU_SLOT_BITS
#define MMU_SLOT_BITS 9
#endif
#define MMU_SLOTS     (1u << MMU_SLOT_BITS)
#define MMU_LEVELS    4u
#define MMU_PAGE_SIZE 4096ull
#define MMU_SPAN_SIZE (MMU_PAGE_SIZE << MMU_SLOT_BITS)

enum mmu_error {
	MMU_NO_MEMORY = -12,  /* the values are those of -errno: -ENOMEM */
	MMU_DENIED = -13,     /* -EACCES: the leaf does not allow the access */
	MMU_NOT_MAPPED = -14, /* -EFAULT */
	MMU_BUSY = -16,	      /* -EBUSY: a page is pinned */
	MMU_INVALID = -22,    /* -EINVAL: a bad range, or an attribute that the format lacks */
};

/* The bit layout of entries: EPT (SDM vol. 3, 29.3.2) or NPT (APM vol. 2, 5.3 and 15.25). */
struct mmu_format;
extern const struct mmu_format mmu_ept, mmu_npt;

/* What a leaf allows and how it is cached. */
struct mmu_attr {
	bool r, w, x; /* w needs r. NPT: r is implied */
	/* 0 UC, 1 WC, 4 WT, 5 WP, 6 WB, as in the MTRRs. NPT selects the type through the PAT's
	 * reset value, which has neither WC nor WP. */
	uint8_t memory_type;
	bool ignore_pat;  /* EPT: the guest's PAT has no effect */
	bool suppress_ve; /* EPT: a violation causes an exit even where #VE is enabled */
	bool accessed, dirty;
	/* Input of mmu_map(): the highest level of leaves to use where the alignment allows it, 1
	 * to 3; 0 means 1. In results: the level of the leaf. */
	uint8_t level;
};

/* A table and its counts. The owner of the memory provides both, see ops. */
struct mmu_table {
	_Atomic uint64_t *slot;	  /* [MMU_SLOTS] */
	uint64_t phys;		  /* bits 51:12 of a link to this table */
	_Atomic uint32_t refs;	  /* invariant 1: links and roots */
	uint32_t pins;		  /* invariant 4 */
	_Atomic uint32_t walkers; /* number of visits, plus 1 while linked; see scheme.c */
	uint32_t id;		  /* for mmu_percpu: index into mmu_cpu.walkers */
	_Atomic uint16_t used;	  /* invariant 2 */
	_Atomic uint16_t in_use;  /* for mmu_scan: the last slot found not empty */
	uint8_t level;
	_Atomic bool linear; /* level 1: no slot is empty, and the frames are consecutive */
	_Atomic uint8_t lock;
	uint8_t held;		/* number of changes that have released the lock for a moment */
	_Atomic bool dead;	/* unlinked: a change that finds this starts again at the root */
	uint32_t seen;		/* used by mmu_check(); 0 at all other times */
	struct mmu_table *next; /* in the list of dead tables, oldest first */
	uint64_t epoch;		/* when it died */
#ifdef MMU_DEBUG
	_Atomic uint64_t seal; /* while shared: a hash of what it maps */
#endif
};

struct mmu_root;

/*
 * What must be invalidated. Only the root that has this duty needs the flush, no other root.
 *
 * EPT (SDM vol. 3, 29.4.3): INVEPT single-context with the root's EPTP. The processor has no
 * narrower one; the range is for hypervisors that keep shadows of the tables. NPT (APM vol. 2,
 * 15.16): flush the ASIDs that run on the root. No flush is due when a translation was not present
 * before, or gets more permissions: a violation itself drops the stale translation (SDM 29.4.3.1;
 * APM 5.5.2).
 */
struct mmu_flush {
	enum { MMU_FLUSH_NOTHING, MMU_FLUSH_RANGE, MMU_FLUSH_ROOT } kind;
	gpa_t from, to; /* MMU_FLUSH_RANGE: [from, to) */
	bool moved;	/* mmu_root_phys() has changed: load the new value, flush the old one */
};

/* A range of guest-physical memory whose tables are shared up to the same level. */
struct mmu_region {
	gpa_t at;
	uint64_t n;	/* pages */
	unsigned share; /* the highest level of tables that forks share in it, see mmu_fork() */
};

#define MMU_KEEP_MAX 8u

/* An address space. The caller may set region and n_regions; only the library uses the rest. */
struct mmu_root {
	struct mmu_table *_Atomic top;
	/* Sorted, without overlaps, in the caller's memory; inherited by forks. A table is shared
	 * only if one region covers all of it. NULL: one region covers everything and may be shared
	 * at any level. */
	const struct mmu_region *region;
	unsigned n_regions;
	struct mmu_flush duty; /* see mmu_flush_take() */
	_Atomic uint32_t lock; /* number of shared holders; bit 31: held or wanted exclusively */
	_Atomic uint8_t top_lock;
	uint8_t n_kept;
	gpa_t kept[MMU_KEEP_MAX]; /* spans whose empty PTE tables were left in place */
};

struct mmu_ops {
	/* Returns a table with all slots empty; slot and phys (and id) are set. NULL: no memory. */
	struct mmu_table *(*alloc_table)(void *ctx);
	void (*free_table)(void *ctx, struct mmu_table *t);
	struct mmu_table *(*table)(void *ctx, uint64_t phys);
	/* Take or drop one reference to each of n frames. Frame number = physical address >> 12. */
	void (*get_frames)(void *ctx, uint64_t first, uint64_t n);
	void (*put_frames)(void *ctx, uint64_t first, uint64_t n);

	/* For mmu_fault() and mmu_pin(): true if one of these frames has more than one reference.
	 * If the pointer is NULL, the library takes every frame for shared. */
	bool (*frames_shared)(void *ctx, uint64_t first, uint64_t n);
	/* Makes a new frame with the same contents and one reference. Returns 0 or MMU_NO_MEMORY.
	 * If the pointer is NULL, pages are never copied: mmu_fault() returns MMU_DENIED. */
	int (*copy_frame)(void *ctx, uint64_t frame, uint64_t *copy);

	/* Must invalidate before it returns, on all processors: right after it, the library drops
	 * its references to what was unmapped. Called with no table lock held. If the pointer is
	 * NULL, duties add up in the root for mmu_flush_take(). That is enough if no processor
	 * runs on any root between a call and the flush. */
	void (*flush)(void *ctx, struct mmu_root *root, const struct mmu_flush *what);

	/* For mmu_concurrent(): the index of the mmu_cpu that the calling thread may use. No other
	 * thread may get the same index at the same time. */
	unsigned (*cpu)(void *ctx);
	/* Called in a loop while waiting for another thread. NULL: a PAUSE instruction. */
	void (*relax)(void *ctx);
};

/* How the library notices that tables are empty, and what keeps a table alive for its walkers. */
struct mmu_scheme;
extern const struct mmu_scheme mmu_none;   /* mmu_discard() leaves empty tables in place */
extern const struct mmu_scheme mmu_scan;   /* scans the slots; frees after a grace period */
extern const struct mmu_scheme mmu_atomic; /* counts slots and visits in the table */
extern const struct mmu_scheme mmu_percpu; /* counts visits per CPU until the table dies */

const char *mmu_scheme_name(const struct mmu_scheme *scheme);

/* The private data of one walking thread (CPU). The caller zeroes it before its first use. */
struct mmu_cpu {
	_Alignas(64) _Atomic uint64_t epoch; /* when the present walk began; 0: no walk */
	unsigned depth;			     /* nesting depth of walks */
	_Atomic int32_t *walkers; /* for mmu_percpu: one for each possible table, zeroed */
};

struct mmu {
	const struct mmu_format *format;
	const struct mmu_ops *ops;
	void *ctx;
	const struct mmu_scheme *scheme; /* mmu_init() sets mmu_scan */
	unsigned keep; /* number of empty tables that a root keeps for reuse, <= MMU_KEEP_MAX */
	struct mmu_cpu *cpu; /* NULL: calls are serialized */
	unsigned n_cpus;
	_Atomic uint64_t tables[MMU_LEVELS + 1]; /* alive, by level */
	_Atomic uint64_t breaks, reuses, shares; /* statistics of copy-on-write */
	_Atomic uint64_t epoch;
	_Atomic uint8_t limbo_lock;
	struct mmu_table *limbo, **limbo_end; /* dead tables, oldest first */
};

void mmu_init(
	struct mmu *mmu, const struct mmu_format *format, const struct mmu_ops *ops, void *ctx);
/* Allows calls from n CPUs at the same time. Must be called before any table exists; needs
 * ops.cpu. */
void mmu_concurrent(struct mmu *mmu, struct mmu_cpu *cpu, unsigned n);

/* Makes an empty address space. */
int mmu_root_init(struct mmu *mmu, struct mmu_root *root);
/* Drops the root and everything that only this root had, pinned pages too. No flush is made: no
 * processor may run on the root any more, and the caller must flush its EPTP or ASID before using
 * that for another root. */
void mmu_root_put(struct mmu *mmu, struct mmu_root *root);
/* The value for bits 51:12 of EPTP or nCR3. */
uint64_t mmu_root_phys(const struct mmu_root *root);

/* Without ops.flush: returns what has become due in this root since the last call. */
struct mmu_flush mmu_flush_take(struct mmu_root *root);

/* ---- mapping. Ranges are n pages of 4 KiB from the page-aligned `at` ---- */

/* Maps the range to consecutive frames from `frame` on, and takes over one reference to each of
 * them. Earlier mappings in the range are replaced. Flush: the earlier mappings. */
int mmu_map(struct mmu *mmu, struct mmu_root *root, gpa_t at, uint64_t n, uint64_t frame,
	struct mmu_attr attr);
/* Unmaps the range. Tables that become empty are freed. Flush: what was mapped there. */
int mmu_unmap(struct mmu *mmu, struct mmu_root *root, gpa_t at, uint64_t n);
/* The same, but mmu.scheme and mmu.keep decide whether empty tables are freed: a guest that
 * discards pages may soon touch them again. */
int mmu_discard(struct mmu *mmu, struct mmu_root *root, gpa_t at, uint64_t n);
/* Frees the empty tables that mmu_discard() kept. */
void mmu_reclaim(struct mmu *mmu, struct mmu_root *root);
/* Changes r, w, x, the memory type, ignore_pat and suppress_ve of what is mapped. With attr.w,
 * writes become allowed, but the processor's W is set only by mmu_fault(), when copy-on-write
 * permits. Flush: the leaves that lose a permission or change their type. */
int mmu_protect(struct mmu *mmu, struct mmu_root *root, gpa_t at, uint64_t n, struct mmu_attr attr);

/* Afterwards no leaf in the range has a level above `level` (1 or 2). Flush: what was split. */
int mmu_split(struct mmu *mmu, struct mmu_root *root, gpa_t at, uint64_t n, unsigned level);
/* Replaces tables by leaves of up to `level` (2 or 3). A table is replaced if it lies in the range,
 * is not shared, has no pins, and maps consecutive, aligned frames with the same attributes.
 * Flush: what was merged. */
int mmu_merge(struct mmu *mmu, struct mmu_root *root, gpa_t at, uint64_t n, unsigned level);

/*
 * A pinned page may be written by a device, which does not walk the tables. Pinning breaks shared
 * tables and copies shared frames. A fork never shares a table with pins: it copies the table, and
 * copies each pinned page to a new frame. MMU_BUSY: a page is pinned already. Calls that would
 * unmap a pinned page also return MMU_BUSY.
 */
int mmu_pin(struct mmu *mmu, struct mmu_root *root, gpa_t at, uint64_t n);
int mmu_unpin(struct mmu *mmu, struct mmu_root *root, gpa_t at, uint64_t n);

/* ---- faults ---- */

enum mmu_access { MMU_READ, MMU_WRITE, MMU_EXECUTE };

/*
 * Called when the processor was denied an access. If the leaf allows the access, this makes it
 * possible: for a write it breaks the shared tables on the way to `at`, and copies the page
 * (4 KiB) if its frame is shared. Returns 0 when the access can be repeated; *frame (may be NULL)
 * is then the frame of `at`. Errors: MMU_NOT_MAPPED, MMU_DENIED, MMU_NO_MEMORY.
 * Flush: the range of each copied table, and the copied page; nothing where all was reused.
 */
int mmu_fault(
	struct mmu *mmu, struct mmu_root *root, gpa_t at, enum mmu_access access, uint64_t *frame);
/* The same, called before the hypervisor itself writes to the page. */
int mmu_touch_write(struct mmu *mmu, struct mmu_root *root, gpa_t at, uint64_t *frame);

/* ---- forks ---- */

/*
 * Forks an address space. `share` is the highest level of tables that src and dst share afterwards:
 * 1 (PTE tables, as in the paper), 2, 3, 4 (all tables: the new root costs one count), or 0 (no
 * table: all are copied, the classic way). A table is shared only if it has no pins and lies in
 * one region whose own `share` allows its level. Flush: the whole of src if any W was cleared, even
 * if the fork failed.
 */
enum { MMU_SHARE_NONE, MMU_SHARE_PTE, MMU_SHARE_PD, MMU_SHARE_PDPT, MMU_SHARE_ROOT };
int mmu_fork(struct mmu *mmu, struct mmu_root *src, unsigned share, struct mmu_root *dst);

/* Makes dst's span at `at` map what src's span maps: dst shares src's PTE table or frames, or the
 * span becomes empty. MMU_BUSY: one of the two spans has pinned pages. Flush: the span in dst, and
 * in src if W was cleared there. */
int mmu_share_span(struct mmu *mmu, struct mmu_root *dst, struct mmu_root *src, gpa_t at);

/*
 * Replaces some leaves of a span: if bit i of the bitmap is set, page i now maps to frame[i]. Takes
 * over one reference to each such frame. The new table is built aside, then linked by one store.
 */
#define MMU_BITMAP ((MMU_SLOTS + 63) / 64)
int mmu_overlay_span(struct mmu *mmu, struct mmu_root *root, gpa_t at,
	const uint64_t bitmap[MMU_BITMAP], const uint64_t frame[MMU_SLOTS], struct mmu_attr attr);

/* ---- looking ---- */

/* Translates `at` as a page walk of the processor would: the frame, and what all levels together
 * allow. Returns 0 or MMU_NOT_MAPPED. */
int mmu_translate(struct mmu *mmu, const struct mmu_root *root, gpa_t at, uint64_t *frame,
	struct mmu_attr *attr);

/* One leaf, as the functions below report it. */
struct mmu_leaf {
	gpa_t at;
	uint64_t frame;
	struct mmu_attr attr; /* w: what all levels together allow */
	bool may_write;	      /* writes are allowed, perhaps after a copy-on-write */
	bool shared;	      /* a table on the way to it has refs > 1 */
	bool pinned;
};
/* Calls fn for each leaf in the range, in order. A result of fn other than 0 ends the loop and is
 * returned. Callbacks of this library must not change tables. */
typedef int mmu_leaf_fn(void *arg, const struct mmu_leaf *leaf);
int mmu_iterate(struct mmu *mmu, const struct mmu_root *root, gpa_t at, uint64_t n, mmu_leaf_fn *fn,
	void *arg);

/* A range of addresses that is mapped to consecutive frames. */
struct mmu_run {
	gpa_t at;
	uint64_t frame, n_pages;
};
/* Finds the first such range in [at, end), cut at end. False: nothing is mapped there. */
bool mmu_next_run(
	struct mmu *mmu, const struct mmu_root *root, gpa_t at, gpa_t end, struct mmu_run *run);

/*
 * Reports the leaves in the range that have the accessed or dirty bit set. With MMU_HARVEST_CLEAR
 * it also clears these bits, and breaks shared tables for that. The processor sets the bits: with
 * EPT if bit 6 of EPTP is set, with NPT always. Flush: where bits were cleared, since without a
 * flush the processor may not set them again (SDM vol. 3, 29.3.5). The callbacks start only when
 * nothing can fail any more.
 */
enum { MMU_HARVEST_ACCESSED = 1, MMU_HARVEST_DIRTY = 2, MMU_HARVEST_CLEAR = 4 };
int mmu_harvest(struct mmu *mmu, struct mmu_root *root, gpa_t at, uint64_t n, unsigned what,
	mmu_leaf_fn *fn, void *arg);

/*
 * Calls fn for each range [at, at + n pages) that a and b translate differently: to other frames,
 * or with other attributes. The bits A and D, and a W that copy-on-write cleared, do not count as
 * differences. Subtrees that both share are skipped. A NULL leaf means "not mapped". Returns like
 * mmu_iterate(). *visited (may be NULL) becomes the number of tables that were read.
 */
typedef int mmu_diff_fn(
	void *arg, gpa_t at, uint64_t n, const struct mmu_leaf *a, const struct mmu_leaf *b);
int mmu_diff(struct mmu *mmu, const struct mmu_root *a, const struct mmu_root *b, mmu_diff_fn *fn,
	void *arg, uint64_t *visited);

/* A PTE table that stays readable until mmu_visit_end(), called on the same CPU, even if it is
 * unlinked meanwhile. */
struct mmu_visit {
	struct mmu_table *table; /* only for reading */
	struct mmu_cpu *walk;
};
/* False: `at` has no PTE table. */
bool mmu_visit(struct mmu *mmu, const struct mmu_root *root, gpa_t at, struct mmu_visit *visit);
void mmu_visit_end(struct mmu *mmu, struct mmu_visit *visit);

/* What can be reached from a root. */
struct mmu_root_stat {
	uint64_t own, shared; /* tables of this root alone; tables that it shares */
	uint64_t tables[MMU_LEVELS + 1], leaves[MMU_LEVELS + 1]; /* by level */
	uint64_t empty;						 /* PTE tables with no leaf */
	uint64_t pinned;					 /* pages */
};
void mmu_root_stat(struct mmu *mmu, const struct mmu_root *root, struct mmu_root_stat *st);

/* Calls `line` with one line for each table and for each run of similar leaves. */
typedef void mmu_line_fn(void *arg, const char *line);
void mmu_dump(struct mmu *mmu, const struct mmu_root *root, mmu_line_fn *line, void *arg);

static inline uint64_t mmu_tables(const struct mmu *mmu)
{
	return mmu->tables[1] + mmu->tables[2] + mmu->tables[3] + mmu->tables[4];
}

/* Waits until all walks that are under way have ended, and frees the tables that waited for that.
 * Must not be called within a walk. */
void mmu_quiesce(struct mmu *mmu);

/* ---- checking ---- */

/* Features and settings of a processor. They decide which bits of an entry are reserved. */
struct mmu_caps {
	uint8_t phys_bits; /* MAXPHYADDR */
	bool page_2m, page_1g;
	bool execute_only;	 /* IA32_VMX_EPT_VPID_CAP bit 0 */
	bool mode_based_execute; /* EPT: the control is on, so bit 10 has a meaning */
	bool no_execute;	 /* NPT: EFER.NXE of the host */
};

/* Returns why the processor would refuse an entry (EPT misconfiguration, reserved bits), or NULL
 * if it would not. */
const char *mmu_validate(const struct mmu_format *format, const struct mmu_caps *caps,
	unsigned level, uint64_t entry);

/*
 * Recomputes every count from all n roots. seen[] (n_frames entries, zeroed by the caller) receives
 * the number of references to each frame; the caller compares it with its own counts. Reports
 * every discrepancy and returns their number.
 */
typedef void mmu_report(
	void *arg, const char *what, uint64_t phys, uint64_t is, uint64_t should_be);
unsigned mmu_check(struct mmu *mmu, struct mmu_root *const *root, unsigned n, uint32_t *seen,
	uint64_t n_frames, mmu_report *report, void *arg);
/* Calls mmu_validate() on every entry of a root. A report has the address and the entry. */
unsigned mmu_check_format(struct mmu *mmu, const struct mmu_root *root, const struct mmu_caps *caps,
	mmu_report *report, void *arg);

#endif
