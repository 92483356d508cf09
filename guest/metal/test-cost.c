// SPDX-License-Identifier: Apache-2.0
/*
 * The number of instructions for a fork, in guest and hypervisor. The time-stamp counter counts
 * them: with QEMU's -icount shift=0 each instruction is a tick. A fork is counted from the parent's
 * stop until parent and child have both run again. Then the first writes are counted. Prints one
 * line for each case.
 */
#include "guest/metal/cpu.h"
#include "guest/metal/lib.h"
#include "guest/metal/memory.h"
#include "guest/metal/tests.h"
#include "guest/metal/vm.h"

#define PAGE 4096u
#define SPAN (2u << 20)
#define MIN  (64ul << 20)

static uint64_t write_cost(struct vm *vm, uint64_t at, uint64_t spans)
{
	uint64_t start = rdtsc();

	vm_do(vm, GUEST_WRITE, at, spans, SPAN, 1);
	return rdtsc() - start;
}

static uint64_t fork_cost(struct vm *vm, unsigned share, struct vm *child)
{
	uint64_t start = rdtsc();

	vm_fork(vm, share, child);
	vm_do(vm, GUEST_READ, GUEST_DATA, 1, 4, 0);
	vm_do(child, GUEST_READ, GUEST_DATA, 1, 4, 0);
	return rdtsc() - start;
}

struct cost {
	uint64_t fork, tables;		  /* cost of a fork, and number of tables made by it */
	uint64_t table_page, page, reuse; /* cost of one write */
	uint64_t spans;			  /* cost of one write in each span by the child */
	uint64_t end;
};

/* One page in each span has been written, so only tables must be copied. */
static struct cost measure(unsigned share, uint64_t bytes)
{
	struct cost c;
	struct vm vm, child;

	vm_new(&vm, bytes, false, false);
	vm_do(&vm, GUEST_WRITE, GUEST_DATA, bytes / SPAN - 1, SPAN, 0);
	c.tables = mmu_tables(&mmu);
	c.fork = fork_cost(&vm, share, &child);
	c.tables = mmu_tables(&mmu) - c.tables;
	c.table_page = write_cost(&vm, GUEST_DATA, 1);
	c.page = write_cost(&vm, GUEST_DATA + PAGE, 1);
	c.reuse = write_cost(&child, GUEST_DATA, 1);
	c.spans = write_cost(&child, GUEST_DATA + 2 * PAGE, bytes / SPAN - 1);
	c.end = rdtsc();
	vm_end(&child);
	c.end = rdtsc() - c.end;
	vm_end(&vm);
	return c;
}

void test_cost(void)
{
	static const char *const names[] = { "copy", "pte", "pd", "pdpt", "root" };
	uint64_t max = arg_number("max", 1ull << 30);
	struct cost first[MMU_SHARE_ROOT + 1], c;

	print("cost share mib fork tables write_table_page write_page write_reuse write_spans "
	      "end\n");
	for (unsigned share = MMU_SHARE_NONE; share <= MMU_SHARE_ROOT; share++)
		for (uint64_t bytes = MIN; bytes <= max; bytes *= 2) {
			c = measure(share, bytes);
			if (bytes == MIN)
				first[share] = c;
			print("cost %s %lu %lu %lu %lu %lu %lu %lu %lu\n", names[share],
				bytes >> 20, c.fork, c.tables, c.table_page, c.page, c.reuse,
				c.spans, c.end);
			/* Only the amount that is copied depends on the size. */
			if (share >= MMU_SHARE_PDPT)
				check(names[share], "more for a larger guest",
					c.fork - first[share].fork, 0);
			else if (share)
				check(names[share], "less than a small copy",
					c.fork < first[MMU_SHARE_NONE].fork / 2, 1);
		}
	for (unsigned share = MMU_SHARE_PTE; share <= MMU_SHARE_ROOT; share++) {
		c = measure(share, MIN);
		check(names[share], "instructions more, once more", c.fork - first[share].fork, 0);
		check(names[share], "copying is 20 times as dear",
			first[MMU_SHARE_NONE].fork >= 20 * c.fork, 1);
	}
}
