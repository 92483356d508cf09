// SPDX-License-Identifier: Apache-2.0
/*
 * What flushes are for. A guest runs on the other processor and never leaves it by itself, while
 * this one changes its tables: what that processor has cached of them must go, or (with the flushes
 * left out, to see that these tests can fail)
 *  - a clone sees what its parent writes after the fork;
 *  - one vCPU of a VM goes on reading the page that another vCPU no longer writes to.
 */
#include "guest/metal/cpu.h"
#include "guest/metal/lib.h"
#include "guest/metal/memory.h"
#include "guest/metal/tests.h"
#include "guest/metal/vm.h"

#define BYTES (4u << 20)
#define WORD  (GUEST_DATA + 0x5000u)
#define STOP  (GUEST_DATA + 0x9000u) /* zero: goes on for ever */
#define LONG  200000ul		     /* turns of a waiting loop in which a guest gets far */

static const char *now;

static void wait(uint64_t n)
{
	while (n--)
		__builtin_ia32_pause();
}

/* Until the word is no longer what it was. */
static uint32_t wait_changed(struct vm *vm, uint32_t from)
{
	for (uint64_t i = 0; i < 10000 * LONG; i++) {
		uint32_t is = vm_peek(vm, WORD);

		if (is != from)
			return is;
		__builtin_ia32_pause();
	}
	fatal("%s: the other processor's guest does not run", now);
}

/* A guest that writes to WORD for ever, on the other processor. */
static void spin(struct vm *vm, struct vcpu *v, uint32_t command)
{
	vm_do(vm, GUEST_WRITE, STOP, 1, 4, -STOP * GUEST_PATTERN);
	vm_do(vm, GUEST_WRITE, WORD, 1, 4, -WORD * GUEST_PATTERN);
	vcpu_start(v, command, WORD, 0, 0, 0);
	v->gpr[RDI] = command == GUEST_SPIN_WRITE ? STOP : WORD;
}

static uint32_t read_word(struct vm *vm)
{
	return vm_do(vm, GUEST_READ, WORD, 1, 4, 0).edi;
}

/* True: the child never saw what its parent wrote. */
static bool fork_of_a_writer(unsigned share)
{
	struct vm parent, child;
	uint32_t first, later, progress;

	vm_new(&parent, BYTES, false, false);
	spin(&parent, &parent.vcpu[0], GUEST_SPIN_WRITE);
	cpu_give(&parent.vcpu[0]);
	wait_changed(&parent, 0);

	memory_lock();
	vm_fork(&parent, share, &child);
	memory_unlock();
	first = read_word(&child);
	progress = vm_peek(&parent, WORD);
	wait(LONG / 10);
	wait_changed(&parent, progress);
	later = read_word(&child);

	cpu_stop();
	check(now, "wrong counts",
		memory_check((struct mmu_root *[]){ &parent.root, &child.root }, 2), 0);
	vm_end(&child);
	vm_end(&parent);
	return first == later;
}

/* True: the waiting vCPU has seen the other one's write. */
static bool write_of_a_sibling(unsigned share)
{
	struct vm parent, child;
	struct vcpu *waiting;
	bool seen = false;

	vm_new(&parent, BYTES, false, false);
	waiting = vm_add_vcpu(&parent);
	spin(&parent, waiting, GUEST_SPIN_READ);
	vm_fork(&parent, share, &child);
	cpu_give(waiting);
	wait(LONG);

	vcpu_start(&parent.vcpu[0], GUEST_WRITE, WORD, 1, 4, 1);
	if (vcpu_go(&parent.vcpu[0]) != VCPU_DONE) /* breaks the table and the page */
		fatal("%s: interrupted", now);
	for (uint64_t i = 0; i < (leave_out_flushes ? LONG : 10000 * LONG) && !seen; i++) {
		seen = cpu_is_done();
		__builtin_ia32_pause();
	}
	cpu_stop();
	vm_end(&child);
	vm_end(&parent);
	return seen;
}

/* leave_out=1 on the command line: none of these holds. */
void test_flush(void)
{
	bool cruel = arg_number("leave_out", 0);

	cpu_start_other();
	for (unsigned without = cruel; without <= 1; without++) {
		leave_out_flushes = without;
		now = without ? "without flushes" : "with flushes";
		for (unsigned share = MMU_SHARE_NONE; share <= MMU_SHARE_ROOT; share++) {
			check(now, "clone sees nothing of its parent", fork_of_a_writer(share),
				cruel || !without);
			check(now, "vCPU sees what its sibling wrote", write_of_a_sibling(share),
				cruel || !without);
		}
	}
	leave_out_flushes = false;
}
