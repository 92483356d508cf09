// SPDX-License-Identifier: Apache-2.0
/*
 * A guest with its own page tables. The processor's walk of them is an access, too. NPT always
 * treats it as a write (APM vol. 2, 15.25.6); EPT treats it as a write if it sets A and D,
 * otherwise as a read (SDM vol. 3, 29.3.3.2). So after a fork, a guest that only reads breaks one
 * span: the one with its page tables.
 */
#include "guest/metal/lib.h"
#include "guest/metal/memory.h"
#include "guest/metal/tests.h"
#include "guest/metal/vm.h"

#define PAGE  4096u
#define BYTES (16u << 20)
#define PAGES ((BYTES - GUEST_DATA) / PAGE)
#define WALK  3u /* number of the guest's page tables in use: PML4, PDPT, PD */

static void walk(const char *in, bool log)
{
	bool writes = log || hv->format == &mmu_npt;
	struct vm parent, child;
	uint64_t breaks;
	struct done d;

	vm_new(&parent, BYTES, true, log);
	vm_do(&parent, GUEST_WRITE, GUEST_DATA, PAGES, PAGE, 1);
	vm_fork(&parent, MMU_SHARE_PTE, &child);
	breaks = mmu.breaks;
	d = vm_do(&child, GUEST_VERIFY, GUEST_DATA, PAGES, PAGE, 1);
	check(in, "wrong pages", d.eax, 0);
	check(in, "faults of a reader", d.faults, writes ? WALK : 0);
	check(in, "tables copied", mmu.breaks - breaks, writes);
	d = vm_do(&child, GUEST_VERIFY, GUEST_DATA, PAGES, PAGE, 1);
	check(in, "faults of a reader, again", d.faults, 0);
	d = vm_do(&child, GUEST_WRITE, GUEST_DATA, 1, 4, 2);
	check(in, "faults of a write", d.faults, 1);
	d = vm_do(&parent, GUEST_VERIFY, GUEST_DATA, PAGES, PAGE, 1);
	check(in, "wrong pages of the parent", d.eax, 0);
	vm_end(&child);
	vm_end(&parent);
}

void test_walk(void)
{
	walk("page tables", false);
	if (hv->format == &mmu_ept)
		walk("page tables, A and D", true);
}
