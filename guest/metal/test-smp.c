// SPDX-License-Identifier: Apache-2.0
/*
 * Two processors fault on tables that they share, at once, and mmu/ has to sort it out: breaks of
 * the same tables, the reuse of what the other one has just left, a fork of a guest that runs and
 * faults.
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

/* Parent and child write everything at once; a second child nothing. */
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

/* The parent is forked while it writes: each child has its new pages up to somewhere, then its old
 * ones, for ever. */
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

void test_smp(void)
{
	uint64_t pages, frames = pool.in_use;

	memory_concurrent();
	cpu_start_other();
	pages = pages_free();
	for (unsigned share = MMU_SHARE_NONE; share <= MMU_SHARE_ROOT; share++) {
		uint64_t n = 0, m = 0;

		for (unsigned i = 0; i < ROUNDS; i++) {
			n += both_write(share);
			m += forked_while_writing(share);
		}
		check(levels[share], "wrong after both wrote at once", n, 0);
		check(levels[share], "wrong after forks of a writer", m, 0);
	}
	print("%u forks in the middle of writing\n", in_the_middle);
	check("forks", "any in the middle of writing", in_the_middle > 0, 1);
	mmu_quiesce(&mmu);
	check("at the end", "frames in use", pool.in_use, frames);
	check("at the end", "free pages", pages_free(), pages);
}
