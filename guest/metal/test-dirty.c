// SPDX-License-Identifier: Apache-2.0
/*
 * The A and D bits that the processor sets (EPT: SDM vol. 3, 29.3.5; NPT: APM vol. 2, 15.25.6). A
 * harvest finds exactly the pages that the guest touched. In shared tables, A is common to all
 * sharers, and D cannot be set because W is clear above it.
 */
#include "guest/metal/lib.h"
#include "guest/metal/memory.h"
#include "guest/metal/tests.h"
#include "guest/metal/vm.h"

#define PAGE  4096u
#define BYTES (16u << 20)
#define PAGES (BYTES / PAGE)

enum { READ = 1, WRITTEN = 2 };

static const char *now;
static uint8_t touched[PAGES], found[PAGES];
static uint64_t seed = 7;

static unsigned chance(unsigned n)
{
	seed = seed * 6364136223846793005u + 1442695040888963407u;
	return (unsigned)(seed >> 33) % n;
}

static int collect(void *arg, const struct mmu_leaf *leaf)
{
	found[leaf->at.v / PAGE] |=
		(leaf->attr.accessed ? READ : 0) | (leaf->attr.dirty ? WRITTEN : 0);
	return 0;
}

static void harvest(struct vm *vm, unsigned clear)
{
	memset(found, 0, sizeof found);
	if (mmu_harvest(&mmu, &vm->root, gpa(0), PAGES,
		    MMU_HARVEST_ACCESSED | MMU_HARVEST_DIRTY | clear, collect, NULL))
		fatal("%s: no harvest", now);
}

/* Makes the guest touch random pages, and records that in touched[]. */
static void touch(struct vm *vm, unsigned n, unsigned percent_writes)
{
	while (n--) {
		unsigned page = GUEST_DATA / PAGE + chance(PAGES - GUEST_DATA / PAGE);
		bool w = chance(100) < percent_writes;

		vm_do(vm, w ? GUEST_WRITE : GUEST_READ, page * PAGE, 1, 4, 0);
		touched[page] |= w ? READ | WRITTEN : READ;
	}
	touched[GUEST_CODE / PAGE] |= READ;
}

static void compare(const char *what)
{
	unsigned accessed = 0, dirty = 0, wrong = 0;

	for (unsigned i = 0; i < PAGES; i++) {
		accessed += found[i] & READ;
		dirty += found[i] / WRITTEN;
		wrong += found[i] != touched[i];
	}
	print("%s: %s: %u accessed, %u dirty\n", now, what, accessed, dirty);
	check(now, "pages with other bits than touched", wrong, 0);
	memset(touched, 0, sizeof touched);
}

static void alone(void)
{
	struct vm vm;

	now = "one guest";
	vm_new(&vm, BYTES, false, true);
	for (unsigned round = 0; round < 4; round++) {
		touch(&vm, 700, 40);
		harvest(&vm, MMU_HARVEST_CLEAR);
		compare("harvest, cleared");
	}
	touch(&vm, 300, 40);
	harvest(&vm, 0);
	compare("harvest, left");
	vm_end(&vm);
}

/* After a copy of the page, the copy's leaf has D (it was written) and A. */
static void shared(const char *in, unsigned share)
{
	struct vm parent, child;

	now = in;
	memset(touched, 0, sizeof touched);
	vm_new(&parent, BYTES, false, true);
	vm_do(&parent, GUEST_WRITE, GUEST_DATA, PAGES - GUEST_DATA / PAGE, PAGE, 0);
	harvest(&parent, MMU_HARVEST_CLEAR);
	vm_fork(&parent, share, &child);

	touch(&child, 500, 0);
	touch(&parent, 100, 0);
	harvest(&parent, 0);
	compare("parent's, after both read");
	for (unsigned i = 0; i < PAGES; i++)
		touched[i] = found[i];
	harvest(&child, 0);
	compare("child's, after both read");

	/* After one write the span's table is the child's own. */
	vm_do(&child, GUEST_WRITE, GUEST_DATA, 1, 4, 0);
	harvest(&parent, 0);
	check(now, "parent's page is dirty by child's write", found[GUEST_DATA / PAGE] / WRITTEN,
		0);
	harvest(&child, 0);
	check(now, "child's page is dirty by its write", found[GUEST_DATA / PAGE] / WRITTEN, 1);
	check(now, "wrong counts",
		memory_check((struct mmu_root *[]){ &parent.root, &child.root }, 2), 0);
	vm_end(&child);
	vm_end(&parent);
}

void test_dirty(void)
{
	alone();
	shared("PTE tables shared", MMU_SHARE_PTE);
	shared("PD tables shared", MMU_SHARE_PD);
	shared("PDPT tables shared", MMU_SHARE_PDPT);
	shared("root shared", MMU_SHARE_ROOT);
}
