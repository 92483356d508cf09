// SPDX-License-Identifier: Apache-2.0
/*
 * Compares the library's view of entries with the processor's. At each level, entries with all
 * interesting values are put on the way to one page, and the guest tries to read, write and execute
 * there. The processor must do what mmu_validate() and mmu_translate() say. Cases in which
 * emulators are known to be more lenient than the manuals are counted separately.
 */
#include "guest/metal/lib.h"
#include "guest/metal/memory.h"
#include "guest/metal/tests.h"
#include "guest/metal/vm.h"

#define GIB   (1ull << 30)
#define ADDR  0x000ffffffffff000ull
#define PS    (1ull << 7)
#define WHERE 8u /* offset in the page of the word that is read and written; code is at 0 */

enum outcome { ALLOWED, DENIED, REFUSED };
static const char *const outcomes[] = { "allowed", "denied", "refused" };

static struct vm vm;
static struct mmu_caps caps;
static gpa_t at;	/* guest-physical address of the page */
static uint64_t target; /* address of the page in the machine */
static _Atomic uint64_t *slot[MMU_LEVELS + 1];
static uint64_t good[MMU_LEVELS + 1];

static struct {
	uint64_t tried, outcome[3], wrong;
	uint64_t as_seen, no_user; /* explained differences */
} count;

static bool is_ept(void)
{
	return hv->format == &mmu_ept;
}

static void find_slots(void)
{
	uint64_t table = mmu_root_phys(&vm.root);

	for (unsigned level = MMU_LEVELS; level; level--) {
		slot[level] =
			(_Atomic uint64_t *)table + (at.v >> (3 + 9 * level) & (MMU_SLOTS - 1));
		good[level] = *slot[level];
		table = good[level] & ADDR;
	}
}

/*
 * Returns the entry as the emulators see it. They differ from the manuals (docs/metal.md): bochs
 * ignores bit 12 of a large EPT leaf; bochs and QEMU ignore bit 8 of a PML4 entry of NPT.
 */
static uint64_t as_seen(unsigned level, uint64_t e)
{
	if (is_ept())
		return (level == 2 || level == 3) && e & PS ? e & ~(1ull << 12) : e;
	return level == 4 ? e & ~(1ull << 8) : e;
}

/* For a processor a clear U is an ordinary page fault, not a reserved bit. */
static bool no_user(uint64_t e)
{
	return !is_ept() && !(e & 4);
}

static enum outcome predict(enum mmu_access access, bool emulated)
{
	struct mmu_attr attr;
	uint64_t frame;
	bool denied = false;

	for (unsigned level = MMU_LEVELS; level; level--) {
		uint64_t e = *slot[level];

		if (!(e & (is_ept() ? 7 : 1)))
			return DENIED;
		if (emulated) {
			denied |= no_user(e);
			e = as_seen(level, e) | (is_ept() ? 0 : 4);
		}
		if (mmu_validate(hv->format, &caps, level, e))
			return REFUSED;
		if (e & PS && level > 1)
			break;
	}
	if (denied || mmu_translate(&mmu, &vm.root, at, &frame, &attr))
		return DENIED;
	return (access == MMU_READ	     ? attr.r
		       : access == MMU_WRITE ? attr.w
					     : attr.x)
		       ? ALLOWED
		       : DENIED;
}

static enum outcome try(enum mmu_access access)
{
	static const uint32_t command[] = { GUEST_READ, GUEST_WRITE, GUEST_CALL };
	uint64_t where = GUEST_WINDOW + at.v % GIB + (access == MMU_EXECUTE ? 0 : WHERE);
	struct vcpu *v = &vm.vcpu[0];
	struct exit e;

	/* This changes the entries without telling mmu/. */
	v->flush = true;
	vcpu_start(v, command[access], where, 1, 4, 0);
	vcpu_try(v, &e);
	if (e.kind == EXIT_HALT)
		return ALLOWED;
	if ((e.kind != EXIT_FAULT && e.kind != EXIT_MISCONFIGURED) || e.at.v >> 12 != at.v >> 12)
		fatal("exit %lx, %lx at %lx", e.why, e.info, e.at.v);
	return e.kind == EXIT_FAULT ? DENIED : REFUSED;
}

static void compare(unsigned level)
{
	uint64_t e = *slot[level];

	for (enum mmu_access access = MMU_READ; access <= MMU_EXECUTE; access++) {
		enum outcome want = predict(access, false), is = try(access);

		count.tried++;
		count.outcome[is]++;
		if (is == want)
			continue;
		if (is == predict(access, true)) {
			count.as_seen += as_seen(level, e) != e;
			count.no_user += as_seen(level, e) == e;
			continue;
		}
		if (count.wrong++ < 20)
			print("level %u entry %lx access %u: %s, should be %s: %s\n", level, e,
				access, outcomes[is], outcomes[want],
				mmu_validate(hv->format, &caps, level, e) ?: "valid");
	}
}

/* All values of bits 7:0, each with one further bit set in turn, or none. */
static void one_level(unsigned level)
{
	for (unsigned low = 0; low < 256; low++) {
		bool large = low & PS && (level == 2 || level == 3);
		uint64_t address =
			large ? target & ~((1ull << (3 + 9 * level)) - 1) : good[level] & ADDR;

		for (unsigned bit = 7; bit < 64; bit++) {
			uint64_t extra = bit == 7 ? 0 : 1ull << bit;
			bool elsewhere = extra & ADDR && bit < caps.phys_bits;

			/* An address bit that leads elsewhere says nothing; in a large leaf, low
			 * ones are no address. */
			if (elsewhere && !(large && bit < 3 + 9 * level))
				continue;
			*slot[level] = address | extra | low;
			compare(level);
		}
	}
	*slot[level] = good[level];
}

/* Permissions of all levels are combined, so try all permissions at all levels. */
static void all_levels(void)
{
	uint64_t bits[3] = { 1, 2, is_ept() ? 4 : 1ull << 63 };
	uint64_t all = bits[0] | bits[1] | bits[2];

	for (unsigned n = 0; n < 1 << 12; n++) {
		for (unsigned level = 1; level <= MMU_LEVELS; level++) {
			uint64_t e = good[level] & ~all;

			for (unsigned b = 0; b < 3; b++)
				if (n >> (3 * (level - 1) + b) & 1)
					e |= bits[b];
			*slot[level] = e;
		}
		compare(1);
	}
	for (unsigned level = 1; level <= MMU_LEVELS; level++)
		*slot[level] = good[level];
}

void test_validate(void)
{
	const struct mmu_attr attr = { .r = true, .w = true, .x = true, .memory_type = 6 };
	uint64_t frame;

	hv->caps(&caps);
	print("address bits %u, 1 GiB leaves %u, execute-only %u\n", caps.phys_bits, caps.page_1g,
		caps.execute_only);
	vm_new(&vm, 4u << 20, true, false);
	/* Leaves of all sizes can map the page if it has the same offset in its GiB in the guest
	 * and in the machine. */
	if (frames_new(1, &frame) || frame >= GIB / MMU_PAGE_SIZE)
		fatal("no frame below 1 GiB");
	target = frame * MMU_PAGE_SIZE;
	at = gpa(GUEST_WINDOW_AT + target);
	*(uint16_t *)target = 0xe7ff; /* jmp *%edi, or %rdi */
	if (mmu_map(&mmu, &vm.root, at, 1, frame, attr))
		fatal("no memory");
	find_slots();
	for (unsigned level = 1; level <= MMU_LEVELS; level++)
		one_level(level);
	all_levels();
	print("%lu tried: %lu allowed, %lu denied, %lu refused\n", count.tried, count.outcome[0],
		count.outcome[1], count.outcome[2]);
	print("explained: %lu by bits the emulator ignores, %lu by a clear U\n", count.as_seen,
		count.no_user);
	check(hv->name, "differences", count.wrong, 0);
	check(hv->name, "every outcome was met",
		count.outcome[0] && count.outcome[1] && count.outcome[2], 1);
	vm_end(&vm);
}
