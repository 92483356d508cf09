// SPDX-License-Identifier: Apache-2.0
/*
 * After a fork, reads cost nothing. The first write below a shared table costs one fault, which
 * copies the tables on the way and the page. Further writes there cost one fault for each page. The
 * last sharer of tables and pages gets them back without a copy.
 */
#include "guest/metal/lib.h"
#include "guest/metal/memory.h"
#include "guest/metal/tests.h"
#include "guest/metal/vm.h"

#define BYTES (16u << 20)
#define PAGE  4096u
#define SPAN  (2u << 20)
#define DATA  GUEST_DATA
#define PAGES ((BYTES - DATA) / PAGE)

static const char *const levels[] = { "copied", "PTE tables shared", "PD tables shared",
	"PDPT tables shared", "root shared" };
static const char *now; /* name of the present case */

/* Counts what one command caused. */
struct cost {
	uint64_t faults, tables, pages, flush;
};

static struct cost measure(struct vm *vm, uint32_t command, uint64_t at, uint64_t n, uint32_t key)
{
	uint64_t tables = mmu.breaks, pages = pages_copied;
	struct done d;

	last_flush = MMU_FLUSH_NOTHING;
	d = vm_do(vm, command, at, n, PAGE, key);
	return (struct cost){ d.faults, mmu.breaks - tables, pages_copied - pages, last_flush };
}

static void expect(const char *what, struct cost is, struct cost want)
{
	print("%s: %s\n", now, what);
	check(now, "faults", is.faults, want.faults);
	check(now, "tables copied", is.tables, want.tables);
	check(now, "pages copied", is.pages, want.pages);
	check(now, "flush", is.flush, want.flush);
}

static void intact(const char *what, struct vm *vm, uint64_t at, uint64_t n, uint32_t key)
{
	struct done d = vm_do(vm, GUEST_VERIFY, at, n, PAGE, key);

	print("%s: %s\n", now, what);
	check(now, "wrong pages", d.eax, 0);
	check(now, "faults", d.faults, 0);
}

static unsigned counts(struct vm *a, struct vm *b)
{
	struct mmu_root *roots[] = { &a->root, b ? &b->root : NULL };

	return memory_check(roots, b ? 2 : 1);
}

/* Accesses of parent and child, until the parent is gone. */
static void shared(unsigned share)
{
	struct vm parent, child;

	vm_new(&parent, BYTES, false, false);
	vm_do(&parent, GUEST_WRITE, DATA, PAGES, PAGE, 1);
	vm_fork(&parent, share, &child);
	check(now, "flush for the fork", last_flush, MMU_FLUSH_ROOT);

	intact("child reads all", &child, DATA, PAGES, 1);
	intact("parent reads all", &parent, DATA, PAGES, 1);

	/* If the root is broken, its top table is a new one, so the root moves. */
	expect("first write", measure(&parent, GUEST_WRITE, DATA, 1, 2),
		(struct cost){
			1, share, 1, share == MMU_SHARE_ROOT ? MMU_FLUSH_ROOT : MMU_FLUSH_RANGE });
	expect("again", measure(&parent, GUEST_WRITE, DATA, 1, 3), (struct cost){ 0 });
	expect("next page", measure(&parent, GUEST_WRITE, DATA + PAGE, 1, 3),
		(struct cost){ 1, 0, 1, MMU_FLUSH_RANGE });
	expect("next span", measure(&parent, GUEST_WRITE, DATA + SPAN, 1, 3),
		(struct cost){ 1, 1, 1, MMU_FLUSH_RANGE });
	check(now, "wrong counts", counts(&parent, &child), 0);

	intact("child's first pages", &child, DATA, PAGES, 1);
	expect("child, alone with tables and page", measure(&child, GUEST_WRITE, DATA, 1, 4),
		(struct cost){ 1, 0, 0, MMU_FLUSH_NOTHING });
	expect("child, alone with tables", measure(&child, GUEST_WRITE, DATA + 2 * PAGE, 1, 4),
		(struct cost){ 1, 0, 1, MMU_FLUSH_RANGE });
	intact("parent's first pages", &parent, DATA, 2, 3);
	intact("parent's other pages", &parent, DATA + 2 * PAGE, SPAN / PAGE - 2, 1);
	check(now, "wrong counts", counts(&parent, &child), 0);

	vm_end(&parent);
	/* The third span's table and pages are not shared any more. */
	expect("last sharer", measure(&child, GUEST_WRITE, DATA + 2 * SPAN, 1, 5),
		(struct cost){ 1, 0, 0, MMU_FLUSH_NOTHING });
	expect("last sharer, whole span", measure(&child, GUEST_WRITE, DATA + 2 * SPAN, 512, 5),
		(struct cost){ 0 });
	check(now, "wrong counts", counts(&child, NULL), 0);
	vm_end(&child);
}

/* Leaves of 2 MiB: a write splits the leaf and copies one page. `tables` counts new tables. */
static struct cost measure_large(struct vm *vm, uint64_t at, uint64_t n, uint32_t key)
{
	uint64_t tables = mmu_tables(&mmu);
	struct cost c = measure(vm, GUEST_WRITE, at, n, key);

	c.tables = mmu_tables(&mmu) - tables;
	return c;
}

static void large(unsigned share)
{
	struct vm parent, child;

	vm_new_large(&parent, BYTES, false);
	vm_do(&parent, GUEST_WRITE, DATA, PAGES, PAGE, 1);
	vm_fork(&parent, share, &child);
	intact("child reads all, in large leaves", &child, DATA, PAGES, 1);
	expect("first write, in a large leaf", measure_large(&parent, DATA, 1, 2),
		(struct cost){ 1, share ?: 1, 1,
			share == MMU_SHARE_ROOT ? MMU_FLUSH_ROOT : MMU_FLUSH_RANGE });
	expect("next page", measure_large(&parent, DATA + PAGE, 1, 2),
		(struct cost){ 1, 0, 1, MMU_FLUSH_RANGE });
	intact("child", &child, DATA, PAGES, 1);
	intact("parent's first pages", &parent, DATA, 2, 2);
	intact("parent's other pages", &parent, DATA + 2 * PAGE, PAGES - 2, 1);
	check(now, "wrong counts", counts(&parent, &child), 0);
	vm_end(&child);
	vm_end(&parent);
}

/* The classic way, for comparison: each page costs parent and child a fault. */
static void copied(void)
{
	struct vm parent, child;

	vm_new(&parent, BYTES, false, false);
	vm_do(&parent, GUEST_WRITE, DATA, PAGES, PAGE, 1);
	vm_fork(&parent, MMU_SHARE_NONE, &child);
	intact("child reads all", &child, DATA, PAGES, 1);
	expect("a span of writes", measure(&parent, GUEST_WRITE, DATA, 512, 2),
		(struct cost){ 512, 0, 512, MMU_FLUSH_RANGE });
	expect("alone with the pages", measure(&child, GUEST_WRITE, DATA, 512, 2),
		(struct cost){ 512, 0, 0, MMU_FLUSH_NOTHING });
	check(now, "wrong counts", counts(&parent, &child), 0);
	vm_end(&child);
	vm_end(&parent);
}

void test_share(void)
{
	uint64_t pages = pages_free(), frames = pool.in_use;

	now = levels[0];
	copied();
	large(MMU_SHARE_NONE);
	for (unsigned share = MMU_SHARE_PTE; share <= MMU_SHARE_ROOT; share++) {
		now = levels[share];
		shared(share);
		large(share);
	}
	check("at the end", "frames in use", pool.in_use, frames);
	check("at the end", "free pages", pages_free(), pages);
}
