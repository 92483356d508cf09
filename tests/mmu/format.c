/* SPDX-License-Identifier: Apache-2.0 */
/* Entries: the conversion of attributes, and the validator's answer for every rule. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "tests/mmu/arena.h"

#define RWX 7ull
#define WB  (6ull << 3)
#define PS  (1ull << 7)
#define NX  (1ull << 63)

static const struct mmu_caps all = {
	.phys_bits = 46,
	.page_2m = true,
	.page_1g = true,
	.execute_only = true,
	.mode_based_execute = true,
	.no_execute = true,
};

struct rule {
	unsigned level;
	uint64_t entry;
	const char *why; /* part of the answer; NULL: the entry is valid */
	struct mmu_caps caps;
};

static void check_rules(const struct mmu_format *f, const struct rule *rule, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		const struct mmu_caps *caps = rule[i].caps.phys_bits ? &rule[i].caps : &all;
		const char *why = mmu_validate(f, caps, rule[i].level, rule[i].entry);

		if (!why != !rule[i].why || (why && !strstr(why, rule[i].why)))
			fail_msg("%d: level %u, %#llx: '%s' instead of '%s'", (int)i, rule[i].level,
				(unsigned long long)rule[i].entry, why ? why : "",
				rule[i].why ? rule[i].why : "");
	}
}

static void test_ept_rules(void **state)
{
	struct mmu_caps few = { .phys_bits = 36, .page_2m = true };
	const struct rule rules[] = {
		/* Not present: any bits are valid, also bit 10 unless it has a meaning. */
		{ 1, 0, NULL, { 0 } },
		{ 1, 0x7ffffffffffff000ull, NULL, { 0 } },
		{ 1, 1ull << 10 | WB, NULL, few },
		{ 1, 1ull << 10 | WB, NULL, { 0 } },
		{ 1, 1ull << 10 | WB, "X without R",
			{ .phys_bits = 46, .mode_based_execute = true } },
		/* Permissions, at each level. */
		{ 1, 2 | WB, "W without R", { 0 } },
		{ 2, 2, "W without R", { 0 } },
		{ 3, 6, "W without R", { 0 } },
		{ 4, 6, "W without R", { 0 } },
		{ 1, 4 | WB, NULL, { 0 } },
		{ 1, 4 | WB, "X without R", few },
		{ 4, 4, "X without R", few },
		{ 1, 1 | WB, NULL, few },
		{ 1, 3 | WB, NULL, few },
		{ 1, 5 | WB, NULL, few },
		/* Bits 6:3 and 7 of links. */
		{ 4, RWX | 1ull << 3, "reserved", { 0 } },
		{ 4, RWX | 1ull << 6, "reserved", { 0 } },
		{ 4, RWX | PS, "bit 7", { 0 } },
		{ 3, RWX | 1ull << 4, "reserved", { 0 } },
		{ 2, RWX | 1ull << 5, "reserved", { 0 } },
		{ 4, RWX | 1ull << 8 | 0xfffull << 52, NULL, { 0 } },
		/* Types of leaves. */
		{ 1, RWX | 0 << 3, NULL, { 0 } },
		{ 1, RWX | 1 << 3, NULL, { 0 } },
		{ 1, RWX | 2 << 3, "memory type", { 0 } },
		{ 1, RWX | 3 << 3, "memory type", { 0 } },
		{ 1, RWX | 4 << 3, NULL, { 0 } },
		{ 1, RWX | 5 << 3, NULL, { 0 } },
		{ 1, RWX | 7 << 3, "memory type", { 0 } },
		{ 2, RWX | PS | 7 << 3, "memory type", { 0 } },
		{ 3, RWX | PS | 3 << 3, "memory type", { 0 } },
		/* Sizes and alignment; bit 7 of a PTE is ignored. */
		{ 1, RWX | WB | PS | 0x1000, NULL, few },
		{ 2, RWX | WB | PS | 1ull << 21, NULL, { 0 } },
		{ 2, RWX | WB | PS | 1ull << 20, "aligned", { 0 } },
		{ 2, RWX | WB | PS | 1ull << 12, "aligned", { 0 } },
		{ 2, RWX | WB | PS, "this size", { .phys_bits = 46, .page_1g = true } },
		{ 3, RWX | WB | PS | 1ull << 30, NULL, { 0 } },
		{ 3, RWX | WB | PS | 1ull << 29, "aligned", { 0 } },
		{ 3, RWX | WB | PS, "this size", few },
		/* Addresses. */
		{ 1, RWX | WB | 1ull << 45, NULL, { 0 } },
		{ 1, RWX | WB | 1ull << 46, "width", { 0 } },
		{ 1, RWX | WB | 1ull << 36, "width", few },
		{ 3, RWX | 1ull << 51, "width", { 0 } },
		/* A, D, user execute, suppress #VE, and the software bits are valid. */
		{ 1, RWX | WB | 0x740 | 0x1full << 52 | 1ull << 63, NULL, { 0 } },
	};

	check_rules(&mmu_ept, rules, sizeof(rules) / sizeof(rules[0]));
}

static void test_npt_rules(void **state)
{
	struct mmu_caps few = { .phys_bits = 40, .page_2m = true };
	const struct rule rules[] = {
		{ 1, 0, NULL, { 0 } },
		{ 1, ~1ull, NULL, { 0 } },
		{ 1, RWX, NULL, { 0 } },
		{ 1, 3, "U clear", { 0 } },
		{ 4, 3, "U clear", { 0 } },
		{ 1, RWX | NX, NULL, { 0 } },
		{ 1, RWX | NX, "NX", few },
		{ 4, RWX | PS, "8:7", { 0 } },
		{ 4, RWX | 1ull << 8, "8:7", { 0 } },
		{ 3, RWX | 1ull << 8, NULL, { 0 } },
		{ 1, RWX | PS | 0x1000, NULL, few },	   /* PAT */
		{ 2, RWX | PS | 1ull << 12, NULL, { 0 } }, /* PAT */
		{ 2, RWX | PS | 1ull << 13, "aligned", { 0 } },
		{ 2, RWX | PS | 1ull << 21, NULL, { 0 } },
		{ 3, RWX | PS | 1ull << 29, "aligned", { 0 } },
		{ 3, RWX | PS | 1ull << 12, NULL, { 0 } },
		{ 3, RWX | PS, "this size", few },
		{ 2, RWX | PS, "this size", { .phys_bits = 40, .page_1g = true } },
		{ 1, RWX | 1ull << 40, "width", few },
		{ 2, RWX | 1ull << 51, "width", { 0 } },
		{ 1, RWX | 0xe78 | 0x1full << 52, NULL, { 0 } },
	};

	check_rules(&mmu_npt, rules, sizeof(rules) / sizeof(rules[0]));
}

/* Maps every combination of attributes at every level: each must be valid and be read back. */
static void round_trip(struct arena *a, const struct mmu_format *f, unsigned bits, unsigned level)
{
	struct mmu_attr attr = {
		.r = bits & 1,
		.w = bits & 2,
		.x = bits & 4,
		.memory_type = bits >> 3 & 7,
		.ignore_pat = bits & 64,
		.suppress_ve = bits & 128,
		.accessed = bits & 256,
		.dirty = bits & 512,
		.level = (uint8_t)level,
	}, found;
	uint8_t t = attr.memory_type;
	bool valid = (attr.r || attr.x) && (attr.r || !attr.w) && t != 2 && t != 3 && t != 7 &&
		     (f == &mmu_ept || (t != 1 && t != 5));
	uint64_t n = 1ull << 9 * (level - 1), first, frame;
	struct mmu_root root;

	a->mmu.format = f;
	a->next_frame = 0;
	assert_int_equal(mmu_root_init(&a->mmu, &root), 0);
	first = arena_frames(a, n, n);
	if (mmu_map(&a->mmu, &root, gpa(0), n, first, attr)) {
		assert_false(valid);
		for (uint64_t i = 0; i < n; i++)
			a->refs[first + i] = 0;
	} else {
		assert_true(valid);
		assert_int_equal(mmu_check_format(&a->mmu, &root, &all, NULL, NULL), 0);
		assert_int_equal(
			mmu_translate(&a->mmu, &root, gpa((n - 1) * 4096 + 5), &frame, &found), 0);
		assert_int_equal(frame, first + n - 1);
		if (f == &mmu_npt) {
			attr.r = true;
			attr.ignore_pat = attr.suppress_ve = false;
		}
		assert_memory_equal(&found, &attr, sizeof(attr));
	}
	mmu_root_put(&a->mmu, &root);
}

static void test_round_trip(void **state)
{
	static struct arena a;

	arena_start(&a, &mmu_ept);
	for (unsigned level = 1; level <= 2; level++)
		for (unsigned bits = 0; bits < 1024; bits++) {
			round_trip(&a, &mmu_ept, bits, level);
			round_trip(&a, &mmu_npt, bits, level);
		}
	round_trip(&a, &mmu_ept, 0x37, 3);
	round_trip(&a, &mmu_npt, 0x37, 3);
	arena_end(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ept_rules),
		cmocka_unit_test(test_npt_rules),
		cmocka_unit_test(test_round_trip),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
