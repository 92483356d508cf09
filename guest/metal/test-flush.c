// SPDX-License-Identifier: Apache-2.0
/*
 * Shows why flushes are needed. A guest runs on the other processor without any exit, while this
 * processor changes its tables. So the other processor must drop its cached translations. Each case
 * runs twice: with the flushes that mmu/ requests, and without. Without them, clones see each
 * other's writes, and guests keep using pages that they no longer have.
 */
#include "guest/metal/cpu.h"
#include "guest/metal/lib.h"
#include "guest/metal/memory.h"
#include "guest/metal/tests.h"
#include "guest/metal/vm.h"

#define PAGE  4096u
#define BYTES (4u << 20)
#define WORD  (GUEST_DATA + 5 * PAGE + 0x40u)
#define STOP  (GUEST_DATA + 9 * PAGE) /* while zero, the guest loops */
#define LONG  200000ul		      /* iterations of a wait in which a guest makes progress */

static const char *now;

static void wait(uint64_t n)
{
	while (n--)
		__builtin_ia32_pause();
}

/* Waits until the word is no longer `from`. Returns the new value. */
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

/* Waits until the other processor has accessed the word. */
static void wait_accessed(struct vm *vm)
{
	struct mmu_attr attr = { .accessed = false };
	uint64_t frame;

	for (uint64_t i = 0; i < 10000 * LONG && !attr.accessed; i++) {
		memory_lock();
		if (mmu_translate(&mmu, &vm->root, gpa(WORD), &frame, &attr))
			fatal("%s: the word is gone", now);
		memory_unlock();
		__builtin_ia32_pause();
	}
	if (!attr.accessed)
		fatal("%s: the other processor's guest does not run", now);
}

static int count_word(void *arg, const struct mmu_leaf *leaf)
{
	*(unsigned *)arg += leaf->at.v == WORD / PAGE * PAGE;
	return 0;
}

/* Returns whether the word's page was accessed or dirtied. Clears the bits of all pages. */
static unsigned harvest(struct vm *vm, unsigned what)
{
	unsigned n = 0;

	memory_lock();
	if (mmu_harvest(
		    &mmu, &vm->root, gpa(0), vm->pages, what | MMU_HARVEST_CLEAR, count_word, &n))
		fatal("%s: no harvest", now);
	memory_unlock();
	return n;
}

/* Waits until the other processor's guest has ended, or until it is clear that it will not. */
static bool wait_done(void)
{
	for (uint64_t i = 0; i < (leave_out_flushes ? LONG : 10000 * LONG) && !cpu_is_done(); i++)
		__builtin_ia32_pause();
	return cpu_is_done();
}

static void write_word(struct vm *vm, uint32_t at, uint32_t value)
{
	vm_do(vm, GUEST_WRITE, at, 1, 4, value - at * GUEST_PATTERN);
}

static uint32_t read_word(struct vm *vm)
{
	return vm_do(vm, GUEST_READ, WORD, 1, 4, 0).edi;
}

/* Makes a vCPU on the other processor write to WORD for ever, or wait until WORD is not zero. */
static void spin(struct vm *vm, struct vcpu *v, uint32_t command)
{
	vcpu_start(v, command, WORD, 0, 0, 0);
	v->gpr[RDI] = command == GUEST_SPIN_WRITE ? STOP : WORD;
	cpu_give(v);
	if (command == GUEST_SPIN_WRITE)
		wait_changed(vm, 0);
	else
		wait_accessed(vm);
}

static void new_with_words(struct vm *vm)
{
	vm_new(vm, BYTES, false, true);
	write_word(vm, STOP, 0);
	write_word(vm, WORD, 0);
	harvest(vm, MMU_HARVEST_ACCESSED);
}

static unsigned counts(struct vm *a, struct vm *b)
{
	return memory_check((struct mmu_root *[]){ &a->root, &b->root }, 2);
}

/* True: the child never saw its parent's writes. */
static bool fork_of_a_writer(unsigned share)
{
	struct vm parent, child;
	uint32_t first, later;

	new_with_words(&parent);
	spin(&parent, &parent.vcpu[0], GUEST_SPIN_WRITE);
	memory_lock();
	vm_fork(&parent, share, &child);
	memory_unlock();
	first = read_word(&child);
	wait_changed(&parent, vm_peek(&parent, WORD));
	wait(LONG / 10);
	later = read_word(&child);

	cpu_stop();
	check(now, "wrong counts", counts(&parent, &child), 0);
	vm_end(&child);
	vm_end(&parent);
	return first == later;
}

/* True: the waiting vCPU has seen the other vCPU's write, which broke the table and the page. */
static bool write_of_a_sibling(unsigned share)
{
	struct vm parent, child;
	bool seen;

	new_with_words(&parent);
	vm_fork(&parent, share, &child);
	spin(&parent, vm_add_vcpu(&parent), GUEST_SPIN_READ);
	write_word(&parent, WORD, 1);
	seen = wait_done();
	cpu_stop();
	vm_end(&child);
	vm_end(&parent);
	return seen;
}

static uint64_t frame_with_word(void)
{
	uint64_t frame;

	if (frames_new(1, &frame))
		fatal("%s: no frame", now);
	*(uint32_t *)((char *)frame_pointer(frame) + WORD % PAGE) = 1;
	return frame;
}

static const struct mmu_attr all = { .r = true, .w = true, .x = true, .memory_type = 6 };

static int unmap(struct vm *vm, struct vm *donor)
{
	return mmu_unmap(&mmu, &vm->root, gpa(WORD / PAGE * PAGE), 1);
}

static int discard(struct vm *vm, struct vm *donor)
{
	return mmu_discard(&mmu, &vm->root, gpa(WORD / PAGE * PAGE), 1);
}

static int map(struct vm *vm, struct vm *donor)
{
	return mmu_map(&mmu, &vm->root, gpa(WORD / PAGE * PAGE), 1, frame_with_word(), all);
}

static int protect(struct vm *vm, struct vm *donor)
{
	struct mmu_attr attr = all;

	attr.w = false;
	return mmu_protect(&mmu, &vm->root, gpa(WORD / PAGE * PAGE), 1, attr);
}

static int share_span(struct vm *vm, struct vm *donor)
{
	return mmu_share_span(&mmu, &vm->root, &donor->root, gpa(GUEST_DATA));
}

static int overlay(struct vm *vm, struct vm *donor)
{
	static uint64_t frame[MMU_SLOTS];
	uint64_t bitmap[MMU_BITMAP] = { 1u << (WORD - GUEST_DATA) / PAGE };

	frame[(WORD - GUEST_DATA) / PAGE] = frame_with_word();
	return mmu_overlay_span(&mmu, &vm->root, gpa(GUEST_DATA), bitmap, frame, all);
}

/* Changes made to the tables of a running guest, and how the guest then ends. */
static const struct {
	const char *what;
	uint32_t command;
	int (*change)(struct vm *vm, struct vm *donor);
	enum vcpu_state ends;
} changes[] = {
	{ "unmap ends a writer", GUEST_SPIN_WRITE, unmap, VCPU_STUCK },
	{ "discard ends a writer", GUEST_SPIN_WRITE, discard, VCPU_STUCK },
	{ "protect ends a writer", GUEST_SPIN_WRITE, protect, VCPU_STUCK },
	{ "map shows a reader another page", GUEST_SPIN_READ, map, VCPU_DONE },
	{ "share_span shows a reader another span", GUEST_SPIN_READ, share_span, VCPU_DONE },
	{ "overlay_span shows a reader another page", GUEST_SPIN_READ, overlay, VCPU_DONE },
};

static bool changed_while_running(unsigned i)
{
	struct vm vm, donor;
	bool done;
	int r;

	new_with_words(&vm);
	new_with_words(&donor);
	write_word(&donor, WORD, 1);
	spin(&vm, &vm.vcpu[0], changes[i].command);
	memory_lock();
	r = changes[i].change(&vm, &donor);
	memory_unlock();
	check(changes[i].what, "returns", (uint64_t)r, 0);
	done = wait_done();
	done &= cpu_stop() == changes[i].ends;
	check(now, "wrong counts", counts(&vm, &donor), 0);
	vm_end(&donor);
	vm_end(&vm);
	return done;
}

/* True: each harvest finds the page dirty, since the guest writes to it all the time. */
static bool harvest_of_a_writer(void)
{
	struct vm vm;
	unsigned found;

	new_with_words(&vm);
	spin(&vm, &vm.vcpu[0], GUEST_SPIN_WRITE);
	found = harvest(&vm, MMU_HARVEST_DIRTY);
	wait_changed(&vm, vm_peek(&vm, WORD));
	wait(LONG / 10);
	found += harvest(&vm, MMU_HARVEST_DIRTY);
	cpu_stop();
	vm_end(&vm);
	return found == 2;
}

/* leave_out=1 on the command line: run only without flushes, and count the results as failures. */
void test_flush(void)
{
	bool leave_out = arg_number("leave_out", 0);

	cpu_start_other();
	for (unsigned without = leave_out; without <= 1; without++) {
		bool want = leave_out || !without;

		leave_out_flushes = without;
		now = without ? "without flushes" : "with flushes";
		for (unsigned share = MMU_SHARE_NONE; share <= MMU_SHARE_ROOT; share++) {
			check(now, "clone sees nothing of its parent", fork_of_a_writer(share),
				want);
			check(now, "vCPU sees what its sibling wrote", write_of_a_sibling(share),
				want);
		}
		for (unsigned i = 0; i < sizeof changes / sizeof *changes; i++)
			check(now, changes[i].what, changed_while_running(i), want);
		check(now, "dirty page is found again", harvest_of_a_writer(), want);
	}
	leave_out_flushes = false;
}
