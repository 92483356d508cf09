// SPDX-License-Identifier: Apache-2.0
/*
 * Two processors call mmu/ at the same time. They break the same tables, and reuse tables that the
 * other one has just dropped. A running guest is forked and harvested, and its leaves are split and
 * merged.
 */
#include "guest/metal/lib.h"
#include "guest/metal/memory.h"
#include "guest/metal/tests.h"
#include "guest/metal/vm.h"

#define PAGE   4096u
#define BYTES  (8u << 20)
#define PAGES  ((BYTES - GUEST_DATA) / PAGE)
#define ROUNDS 2u
#define FORKS  4u

static const char *const levels[] = { "tables copied", "PTE tables shared", "PD tables shared",
	"PDPT tables shared", "root shared" };

static void write_all(struct vcpu *v, uint32_t key)
{
	vcpu_start(v, GUEST_WRITE, GUEST_DATA, PAGES, PAGE, key);
}

static uint64_t wrong(struct vm *vm, uint64_t at, uint64_t n, uint32_t key)
{
	return n ? vm_do(vm, GUEST_VERIFY, at, n, PAGE, key).eax : 0;
}

static void new_written(struct vm *vm)
{
	vm_new(vm, BYTES, false, false);
	vm_do(vm, GUEST_WRITE, GUEST_DATA, PAGES, PAGE, 1);
}

/* Parent and child write all their memory at the same time. A second child writes nothing. */
static uint64_t both_write(unsigned share)
{
	struct vm parent, child, witness;
	uint64_t n;

	new_written(&parent);
	vm_fork(&parent, share, &child);
	vm_fork(&parent, share, &witness);
	write_all(&parent.vcpu[0], 2);
	write_all(&child.vcpu[0], 3);
	cpu_give(&parent.vcpu[0]);
	while (vcpu_go(&child.vcpu[0]) == VCPU_BUSY)
		;
	while (!cpu_is_done())
		__builtin_ia32_pause();
	n = wrong(&parent, GUEST_DATA, PAGES, 2) + wrong(&child, GUEST_DATA, PAGES, 3) +
	    wrong(&witness, GUEST_DATA, PAGES, 1);
	n += memory_check((struct mmu_root *[]){ &parent.root, &child.root, &witness.root }, 3);
	vm_end(&witness);
	vm_end(&child);
	vm_end(&parent);
	return n;
}

/* The parent is forked while it writes. Each child must have the parent's new pages up to one point
 * and the old pages after that, and must never change. */
static unsigned in_the_middle;

static uint64_t forked_while_writing(unsigned share)
{
	struct vm parent, child[FORKS];
	struct mmu_root *roots[FORKS + 1];
	uint64_t n = 0, faults = 0;

	new_written(&parent);
	vm_fork(&parent, share, &child[0]);
	write_all(&parent.vcpu[0], 2);
	cpu_give(&parent.vcpu[0]);
	for (unsigned i = 1; i < FORKS; i++) {
		while (parent.faults == faults && !cpu_is_done())
			__builtin_ia32_pause();
		faults = parent.faults;
		vm_fork(&parent, share, &child[i]);
	}
	while (!cpu_is_done())
		__builtin_ia32_pause();
	for (unsigned i = 0; i < FORKS; i++) {
		uint64_t new = wrong(&child[i], GUEST_DATA, PAGES, 1);

		in_the_middle += new &&new < PAGES;
		n += wrong(&child[i], GUEST_DATA, new, 2);
		n += wrong(&child[i], GUEST_DATA + new *PAGE, PAGES - new, 1);
		roots[i] = &child[i].root;
	}
	n += wrong(&parent, GUEST_DATA, PAGES, 2);
	roots[FORKS] = &parent.root;
	n += memory_check(roots, FORKS + 1);
	for (unsigned i = 0; i < FORKS; i++)
		vm_end(&child[i]);
	vm_end(&parent);
	return n;
}

static uint8_t found[BYTES / PAGE];

static int find(void *arg, const struct mmu_leaf *leaf)
{
	/* A large leaf has one D bit for all its pages. */
	for (uint64_t i = 0; i < 1ull << 9 * (leaf->attr.level - 1); i++)
		found[leaf->at.v / PAGE + i] = true;
	return 0;
}

static void harvest(struct vm *vm, unsigned clear)
{
	if (mmu_harvest(&mmu, &vm->root, gpa(0), vm->pages, MMU_HARVEST_DIRTY | clear, find, NULL))
		fatal("no harvest");
}

/* Runs a guest on the other processor that writes each of its pages once. */
static void write_elsewhere(struct vm *vm, bool large)
{
	if (large)
		vm_new_large(vm, BYTES, true);
	else
		vm_new(vm, BYTES, false, true);
	harvest(vm, MMU_HARVEST_CLEAR);
	memset(found, 0, sizeof found);
	write_all(&vm->vcpu[0], 2);
	cpu_give(&vm->vcpu[0]);
}

/* Returns the number of pages that are wrong, or were written but not found by a harvest. */
static uint64_t end_of_writing(struct vm *vm)
{
	uint64_t n;

	harvest(vm, 0);
	n = wrong(vm, GUEST_DATA, PAGES, 2);
	for (uint64_t i = GUEST_DATA / PAGE; i < BYTES / PAGE; i++)
		n += !found[i];
	n += memory_check((struct mmu_root *[]){ &vm->root }, 1);
	vm_end(vm);
	return n;
}

static uint64_t harvested_while_writing(void)
{
	struct vm vm;

	write_elsewhere(&vm, false);
	while (!cpu_is_done())
		harvest(&vm, MMU_HARVEST_CLEAR);
	return end_of_writing(&vm);
}

static uint64_t resized_while_writing(void)
{
	struct vm vm;

	write_elsewhere(&vm, true);
	while (!cpu_is_done())
		if (mmu_split(&mmu, &vm.root, gpa(0), vm.pages, 1) ||
			mmu_merge(&mmu, &vm.root, gpa(0), vm.pages, 2))
			fatal("no split or merge");
	return end_of_writing(&vm);
}

static int split(struct vm *vm)
{
	return mmu_split(&mmu, &vm->root, gpa(GUEST_DATA), MMU_SLOTS, 1);
}

/* Replaces one page of the span, and leaves the others. */
static int overlay(struct vm *vm)
{
	static uint64_t frame[MMU_SLOTS];
	const struct mmu_attr attr = { .r = true, .w = true, .x = true, .memory_type = 6 };
	const uint64_t bitmap[MMU_BITMAP] = { 1 };

	return frames_new(1, &frame[0])
		       ?: mmu_overlay_span(&mmu, &vm->root, gpa(GUEST_DATA), bitmap, frame, attr);
}

/*
 * One write at about the time when the table or leaf above it is replaced: the processor may set D
 * there after the contents were copied. The guest first writes k pages in the next span, which
 * decides how late this write comes, then the last page of a span. Returns how often a harvest
 * misses the write.
 */
static uint64_t replaced_against_a_write(bool large, int (*replace)(struct vm *vm))
{
	const uint64_t end = GUEST_DATA + MMU_SPAN_SIZE;
	struct vm vm;
	uint64_t n = 0;

	if (large)
		vm_new_large(&vm, BYTES, true);
	else
		vm_new(&vm, BYTES, false, true);
	for (unsigned trial = 0; trial < 200; trial++) {
		unsigned k = trial / 10 * 500, delay = trial % 10 * 500;

		if (large && mmu_merge(&mmu, &vm.root, gpa(0), vm.pages, 2))
			fatal("no merge");
		harvest(&vm, MMU_HARVEST_CLEAR);
		memset(found, 0, sizeof found);
		vcpu_start(&vm.vcpu[0], GUEST_WRITE, end + k * 4 - 4, k + 1, -4ull, 2);
		cpu_give(&vm.vcpu[0]);
		while (delay--)
			__builtin_ia32_pause();
		if (replace(&vm))
			fatal("not replaced");
		while (!cpu_is_done())
			__builtin_ia32_pause();
		harvest(&vm, 0);
		n += !found[end / PAGE - 1];
	}
	vm_end(&vm);
	return n;
}

/* rounds=N on the command line: repeat this many times. */
void test_smp(void)
{
	uint64_t pages, frames = pool.in_use, rounds = arg_number("rounds", ROUNDS);
	uint64_t harvested = 0, resized = 0;

	memory_concurrent();
	cpu_start_other();
	pages = pages_free();
	for (unsigned share = MMU_SHARE_NONE; share <= MMU_SHARE_ROOT; share++) {
		uint64_t n = 0, m = 0;

		for (uint64_t i = 0; i < rounds; i++) {
			n += both_write(share);
			m += forked_while_writing(share);
		}
		check(levels[share], "wrong after both wrote at once", n, 0);
		check(levels[share], "wrong after forks of a writer", m, 0);
	}
	print("%u forks in the middle of writing\n", in_the_middle);
	check("forks", "any in the middle of writing", in_the_middle > 0, 1);
	for (uint64_t i = 0; i < rounds; i++) {
		harvested += harvested_while_writing();
		resized += resized_while_writing();
	}
	check("a writer is harvested", "pages wrong or not found", harvested, 0);
	check("a writer's leaves are split and merged", "pages wrong or not found", resized, 0);
	check("a write while its leaf is split", "not found dirty",
		replaced_against_a_write(true, split), 0);
	check("a write while its span is overlaid", "not found dirty",
		replaced_against_a_write(false, overlay), 0);
	mmu_quiesce(&mmu);
	check("at the end", "frames in use", pool.in_use, frames);
	check("at the end", "free pages", pages_free(), pages);
}
