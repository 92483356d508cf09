/* SPDX-License-Identifier: Apache-2.0 */
/* Checks which tables are shared, copied, reused and freed, with tables of the real size. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "tests/mmu/arena.h"

#define PAGE 4096ull
#define SPAN (2ull << 20)
#define GIB  (1ull << 30)

static const struct mmu_attr rw = { .r = true, .w = true, .x = true, .memory_type = 6 };
static struct arena a;
static struct mmu_root r, child;

static void map(struct mmu_root *root, uint64_t at, uint64_t n, struct mmu_attr attr)
{
	assert_int_equal(mmu_map(&a.mmu, root, gpa(at), n, arena_frames(&a, n, 512), attr), 0);
}

static void touch(struct mmu_root *root, uint64_t at)
{
	uint64_t frame;

	assert_int_equal(mmu_touch_write(&a.mmu, root, gpa(at), &frame), 0);
}

static uint64_t frame_at(struct mmu_root *root, uint64_t at)
{
	struct mmu_attr attr;
	uint64_t frame;

	assert_int_equal(mmu_translate(&a.mmu, root, gpa(at), &frame, &attr), 0);
	return frame;
}

static struct mmu_root_stat stat_of(struct mmu_root *root)
{
	struct mmu_root_stat st;

	mmu_root_stat(&a.mmu, root, &st);
	return st;
}

static int start(void **state)
{
	arena_start(&a, &mmu_ept);
	return mmu_root_init(&a.mmu, &r);
}

static int end(void **state)
{
	struct mmu_root *roots[] = { &r };

	arena_check(&a, roots, 1);
	mmu_root_put(&a.mmu, &r);
	arena_end(&a);
	return 0;
}

/* 1 GiB: the numbers that the COW PTE patches print, and those of every other level. */
static void test_share_levels(void **state)
{
	static const unsigned own[] = { 515, 3, 2, 1, 0 };
	struct mmu_root *both[] = { &r, &child };

	map(&r, 0, 1u << 18, rw);
	assert_int_equal(mmu_tables(&a.mmu), 515);
	for (unsigned share = MMU_SHARE_NONE; share <= MMU_SHARE_ROOT; share++) {
		struct mmu_root_stat st;

		assert_int_equal(mmu_fork(&a.mmu, &r, share, &child), 0);
		assert_int_equal(mmu_tables(&a.mmu), 515 + own[share]);
		st = stat_of(&child);
		assert_int_equal(st.own, own[share]);
		assert_int_equal(st.shared, 515 - own[share]);
		assert_int_equal(st.leaves[1], 1u << 18);
		arena_check(&a, both, 2);
		mmu_root_put(&a.mmu, &child);
	}
}

/* A fork that shares tables reads no leaf: leaves keep W, and only the link protects them. */
static void test_leaves_untouched(void **state)
{
	struct mmu_visit v;
	struct mmu_attr attr;
	uint64_t frame;

	map(&r, 0, 512, rw);
	assert_int_equal(mmu_fork(&a.mmu, &r, MMU_SHARE_PTE, &child), 0);
	assert_true(mmu_visit(&a.mmu, &r, gpa(0), &v));
	for (unsigned i = 0; i < MMU_SLOTS; i++)
		assert_int_equal(v.table->slot[i] & 7, 7);
	mmu_visit_end(&a.mmu, &v);
	assert_int_equal(mmu_translate(&a.mmu, &r, gpa(0), &frame, &attr), 0);
	assert_true(attr.r && attr.x && !attr.w);
	mmu_root_put(&a.mmu, &child);
}

/* A write copies exactly the tables on the path, and refs 1 copies nothing. */
static void test_break_and_reuse(void **state)
{
	uint64_t before;

	map(&r, 0, 1u << 18, rw);
	for (unsigned share = MMU_SHARE_PTE; share <= MMU_SHARE_ROOT; share++) {
		assert_int_equal(mmu_fork(&a.mmu, &r, share, &child), 0);
		before = frame_at(&r, SPAN);
		a.allocs = 0;
		touch(&child, SPAN);
		assert_int_equal(a.allocs, share);
		assert_int_not_equal(frame_at(&child, SPAN), before);
		assert_int_equal(frame_at(&r, SPAN), before);
		touch(&child, SPAN);
		assert_int_equal(a.allocs, share);
		mmu_root_put(&a.mmu, &child);
		a.allocs = 0;
		touch(&r, SPAN);
		touch(&r, 2 * SPAN);
		assert_int_equal(a.allocs, 0);
		assert_int_equal(frame_at(&r, SPAN), before);
	}
	assert_true(a.mmu.reuses && a.mmu.breaks);
}

static void test_regions(void **state)
{
	/* The border is in the middle of the third span; the second region is never shared. */
	struct mmu_region region[] = {
		{ gpa(0), 512 * 2 + 256, MMU_SHARE_ROOT },
		{ gpa(SPAN * 2 + SPAN / 2), 512 * 2 - 256, MMU_SHARE_NONE },
	};
	struct mmu_root_stat st;

	map(&r, 0, 512 * 6, rw);
	r.region = region;
	r.n_regions = 2;
	assert_int_equal(mmu_fork(&a.mmu, &r, MMU_SHARE_PDPT, &child), 0);
	st = stat_of(&child);
	assert_int_equal(st.shared, 2); /* the first two spans */
	assert_int_equal(st.own, 3 + 4);
	assert_ptr_equal(child.region, region);
	mmu_root_put(&a.mmu, &child);
	r.region = NULL;
	r.n_regions = 0;
}

static void test_pins(void **state)
{
	uint64_t pinned, other;
	struct mmu_root_stat st;

	map(&r, 0, 512 * 4, rw);
	pinned = frame_at(&r, SPAN + PAGE);
	assert_int_equal(mmu_pin(&a.mmu, &r, gpa(SPAN + PAGE), 1), 0);
	assert_int_equal(mmu_pin(&a.mmu, &r, gpa(SPAN + PAGE), 1), MMU_BUSY);
	assert_int_equal(mmu_unmap(&a.mmu, &r, gpa(0), 1024), MMU_BUSY);
	assert_int_equal(mmu_pin(&a.mmu, &r, gpa(GIB), 1), MMU_NOT_MAPPED);
	assert_int_equal(mmu_unpin(&a.mmu, &r, gpa(SPAN), 2), MMU_INVALID);
	st = stat_of(&r);
	assert_int_equal(st.pinned, 1);
	assert_int_equal(mmu_fork(&a.mmu, &r, MMU_SHARE_ROOT, &child), 0);
	st = stat_of(&child);
	assert_int_equal(st.own, 3 + 1);
	assert_int_equal(st.shared, 3);
	/* The device writes to the parent's frame, now and later. */
	other = frame_at(&child, SPAN + PAGE);
	assert_int_not_equal(other, pinned);
	touch(&r, SPAN + PAGE);
	assert_int_equal(frame_at(&r, SPAN + PAGE), pinned);
	assert_int_equal(mmu_share_span(&a.mmu, &child, &r, gpa(SPAN)), MMU_BUSY);
	/* Pinning in a shared table breaks it, and the frame. */
	other = frame_at(&child, 0);
	assert_int_equal(mmu_pin(&a.mmu, &child, gpa(0), 1), 0);
	assert_int_not_equal(frame_at(&child, 0), other);
	assert_int_equal(frame_at(&r, 0), other);
	mmu_root_put(&a.mmu, &child);
	assert_int_equal(mmu_unpin(&a.mmu, &r, gpa(SPAN + PAGE), 1), 0);
}

static int count_pages(
	void *arg, gpa_t at, uint64_t n, const struct mmu_leaf *x, const struct mmu_leaf *y)
{
	*(uint64_t *)arg += n;
	return 0;
}

static int stop(void *arg, gpa_t at, uint64_t n, const struct mmu_leaf *x, const struct mmu_leaf *y)
{
	return 7;
}

/* The cost of a diff depends on the differences, not on the size. */
static void test_diff(void **state)
{
	uint64_t pages, visited, one;

	map(&r, 0, 1u << 18, rw);
	for (unsigned share = MMU_SHARE_PTE; share <= MMU_SHARE_ROOT; share++) {
		assert_int_equal(mmu_fork(&a.mmu, &r, share, &child), 0);
		pages = 0;
		assert_int_equal(mmu_diff(&a.mmu, &r, &child, count_pages, &pages, &visited), 0);
		assert_int_equal(pages, 0);
		assert_int_equal(visited, 2 * (MMU_LEVELS - share));
		touch(&child, SPAN);
		assert_int_equal(mmu_diff(&a.mmu, &r, &child, count_pages, &pages, &one), 0);
		assert_int_equal(pages, 1);
		assert_int_equal(one, 2 * MMU_LEVELS);
		for (unsigned i = 1; i < 8; i++)
			touch(&child, i * 60 * SPAN);
		pages = 0;
		assert_int_equal(mmu_diff(&a.mmu, &r, &child, count_pages, &pages, &visited), 0);
		assert_int_equal(pages, 8);
		assert_int_equal(visited, one + 7 * 2);
		assert_int_equal(mmu_diff(&a.mmu, &r, &child, stop, NULL, NULL), 7);
		mmu_root_put(&a.mmu, &child);
	}
}

/* A write splits a shared large leaf, and copies one page of it. */
static void test_large_write(void **state)
{
	struct mmu_attr large = rw;
	struct mmu_root_stat st;
	uint64_t before;

	large.level = 3;
	assert_int_equal(mmu_map(&a.mmu, &r, gpa(GIB), 1u << 18,
				 arena_frames(&a, 1u << 18, 1u << 18), large),
		0);
	st = stat_of(&r);
	assert_int_equal(st.leaves[3], 1);
	assert_int_equal(mmu_fork(&a.mmu, &r, MMU_SHARE_NONE, &child), 0);
	before = frame_at(&r, GIB + SPAN + PAGE);
	touch(&child, GIB + SPAN + PAGE);
	assert_int_equal(frame_at(&r, GIB + SPAN + PAGE), before);
	assert_int_not_equal(frame_at(&child, GIB + SPAN + PAGE), before);
	st = stat_of(&child);
	assert_int_equal(st.leaves[3], 0);
	assert_int_equal(st.leaves[2], 511);
	assert_int_equal(st.leaves[1], 512);
	mmu_root_put(&a.mmu, &child);
	/* The leaf is not shared any more: it is not split. */
	touch(&r, GIB);
	st = stat_of(&r);
	assert_int_equal(st.leaves[3], 1);
	assert_int_equal(mmu_split(&a.mmu, &r, gpa(GIB), 1u << 18, 2), 0);
	assert_int_equal(stat_of(&r).leaves[2], 512);
	assert_int_equal(mmu_merge(&a.mmu, &r, gpa(GIB), 1u << 18, 3), 0);
	assert_int_equal(stat_of(&r).leaves[3], 1);
}

/* 64 MiB, discarded page by page: checks what is left with each scheme. */
static void test_discard(void **state)
{
	static const struct mmu_scheme *const scheme[] = { &mmu_none, &mmu_scan, &mmu_atomic,
		&mmu_percpu };

	for (unsigned i = 0; i < 4; i++) {
		a.mmu.scheme = scheme[i];
		map(&r, 0, 1u << 14, rw);
		assert_int_equal(mmu_tables(&a.mmu), 35);
		for (uint64_t at = 0; at < 64ull << 20; at += PAGE)
			assert_int_equal(mmu_discard(&a.mmu, &r, gpa(at), 1), 0);
		assert_int_equal(mmu_tables(&a.mmu), i ? 1 : 35);
		assert_int_equal(stat_of(&r).empty, i ? 0 : 32);
		mmu_reclaim(&a.mmu, &r);
		assert_int_equal(mmu_tables(&a.mmu), 1);
	}
}

/* With `keep`, tables that become empty and are filled again are not freed and made again. */
static void test_hysteresis(void **state)
{
	a.mmu.keep = 2;
	map(&r, 0, 1, rw);
	for (unsigned i = 0; i < 3; i++) {
		map(&r, SPAN, 1, rw);
		map(&r, 2 * SPAN, 1, rw);
		assert_int_equal(mmu_discard(&a.mmu, &r, gpa(SPAN), 1), 0);
		assert_int_equal(mmu_discard(&a.mmu, &r, gpa(2 * SPAN), 1), 0);
		assert_int_equal(stat_of(&r).empty, 2);
		assert_int_equal(mmu_tables(&a.mmu), 6);
	}
	assert_int_equal(a.n_tables, 6);
	/* When the third table becomes empty, the first one is freed. */
	assert_int_equal(mmu_discard(&a.mmu, &r, gpa(0), 1), 0);
	assert_int_equal(stat_of(&r).empty, 2);
	mmu_reclaim(&a.mmu, &r);
	assert_int_equal(mmu_tables(&a.mmu), 1);
}

/* With each scheme that counts visits, a visited table stays readable after it is unlinked. */
static void test_visits(void **state)
{
	static const struct mmu_scheme *const scheme[] = { &mmu_atomic, &mmu_percpu };
	static struct mmu_cpu cpu[3];
	static _Atomic int32_t walkers[3][A_TABLES];
	struct mmu_visit v[2];
	uint64_t entry;

	mmu_root_put(&a.mmu, &r);
	for (unsigned i = 0; i < 3; i++)
		cpu[i].walkers = walkers[i];
	mmu_concurrent(&a.mmu, cpu, 3);
	assert_int_equal(mmu_root_init(&a.mmu, &r), 0);
	for (unsigned i = 0; i < 2; i++) {
		a.mmu.scheme = scheme[i];
		map(&r, 0, 1, rw);
		assert_false(mmu_visit(&a.mmu, &r, gpa(SPAN), &v[0]));
		a.cpu = 0;
		assert_true(mmu_visit(&a.mmu, &r, gpa(0), &v[0]));
		a.cpu = 1;
		assert_true(mmu_visit(&a.mmu, &r, gpa(0), &v[1]));
		entry = v[0].table->slot[0];
		a.cpu = 2;
		assert_int_equal(mmu_unmap(&a.mmu, &r, gpa(0), 1), 0);
		mmu_quiesce(&a.mmu);
		assert_int_not_equal(v[0].table->slot[0], entry);
		assert_int_equal(v[0].table->slot[0], 0);
		assert_int_equal(a.n_free, a.n_tables - 2); /* the top, and this one */
		/* A visit may end on another CPU. */
		mmu_visit_end(&a.mmu, &v[1]);
		mmu_quiesce(&a.mmu);
		assert_int_equal(a.n_free, a.n_tables - 2);
		a.cpu = 1;
		mmu_visit_end(&a.mmu, &v[0]);
		assert_int_equal(a.n_free, a.n_tables - 1);
	}
	/* Without counts, a visit is a walk that delays the end of the grace period. */
	a.mmu.scheme = &mmu_scan;
	map(&r, 0, 1, rw);
	a.cpu = 0;
	assert_true(mmu_visit(&a.mmu, &r, gpa(0), &v[0]));
	a.cpu = 1;
	assert_int_equal(mmu_unmap(&a.mmu, &r, gpa(0), 1), 0);
	assert_int_equal(v[0].table->slot[0], 0);
	a.cpu = 0;
	mmu_visit_end(&a.mmu, &v[0]);
	assert_string_equal(mmu_scheme_name(&mmu_percpu), "percpu");
}

static unsigned n_lines;
static char lines[16][128];

static void line(void *arg, const char *text)
{
	strncpy(lines[n_lines++ % 16], text, 127);
}

static void test_dump(void **state)
{
	struct mmu_attr other = { .r = true, .memory_type = 4, .ignore_pat = true, .dirty = true };
	uint64_t frame = arena_frames(&a, 3, 1);

	assert_int_equal(mmu_map(&a.mmu, &r, gpa(0), 2, frame, rw), 0);
	assert_int_equal(mmu_map(&a.mmu, &r, gpa(2 * PAGE), 1, frame + 2, other), 0);
	assert_int_equal(mmu_pin(&a.mmu, &r, gpa(2 * PAGE), 1), 0);
	n_lines = 0;
	mmu_dump(&a.mmu, &r, line, NULL);
	assert_int_equal(n_lines, 6);
	assert_string_equal(lines[0], "table of level 4 for 0x0 at 0x1000: refs 1, used 1, pins 1");
	assert_string_equal(lines[3], "table of level 1 for 0x0 at 0x4000: refs 1, used 3, pins 1");
	assert_string_equal(lines[4], "  0x0 + 2 pages: leaf 1, frame 0x0, rwx WB");
	assert_string_equal(lines[5], "  0x2000 + 1 pages: leaf 1, frame 0x2, r-- WT! D pinned");
	assert_int_equal(mmu_unpin(&a.mmu, &r, gpa(2 * PAGE), 1), 0);
}

static void test_runs(void **state)
{
	struct mmu_run run;

	map(&r, 0, 1024, rw);
	map(&r, 2048 * PAGE, 3, rw);
	assert_true(mmu_next_run(&a.mmu, &r, gpa(5 * PAGE), gpa(GIB), &run));
	assert_int_equal(run.at.v, 5 * PAGE);
	assert_int_equal(run.n_pages, 1019);
	assert_true(mmu_next_run(&a.mmu, &r, gpa(0), gpa(9 * PAGE), &run));
	assert_int_equal(run.n_pages, 9);
	assert_true(mmu_next_run(&a.mmu, &r, gpa(1024 * PAGE), gpa(GIB), &run));
	assert_int_equal(run.at.v, 2048 * PAGE);
	assert_int_equal(run.n_pages, 3);
	assert_false(mmu_next_run(&a.mmu, &r, gpa(2051 * PAGE), gpa(GIB), &run));
	assert_false(mmu_next_run(&a.mmu, &r, gpa(GIB), gpa(0), &run));
}

/* Bad ranges and attributes are refused, and nothing changes. */
static void test_invalid(void **state)
{
	struct mmu_attr level4 = rw;
	uint64_t top = 1ull << 48, frame;
	struct mmu_attr attr;

	level4.level = 4;
	assert_int_equal(mmu_map(&a.mmu, &r, gpa(1), 1, 0, rw), MMU_INVALID);
	assert_int_equal(mmu_map(&a.mmu, &r, gpa(top), 1, 0, rw), MMU_INVALID);
	assert_int_equal(mmu_map(&a.mmu, &r, gpa(0), (top >> 12) + 1, 0, rw), MMU_INVALID);
	assert_int_equal(mmu_map(&a.mmu, &r, gpa(PAGE), UINT64_MAX, 0, rw), MMU_INVALID);
	assert_int_equal(mmu_map(&a.mmu, &r, gpa(0), 2, (1ull << 40) - 1, rw), MMU_INVALID);
	assert_int_equal(mmu_map(&a.mmu, &r, gpa(0), 1, 0, level4), MMU_INVALID);
	assert_int_equal(mmu_unmap(&a.mmu, &r, gpa(top), 1), MMU_INVALID);
	assert_int_equal(mmu_discard(&a.mmu, &r, gpa(3), 1), MMU_INVALID);
	assert_int_equal(mmu_discard(&a.mmu, &r, gpa(0), 0), 0);
	assert_int_equal(mmu_protect(&a.mmu, &r, gpa(3), 1, rw), MMU_INVALID);
	assert_int_equal(mmu_split(&a.mmu, &r, gpa(0), 1, 3), MMU_INVALID);
	assert_int_equal(mmu_merge(&a.mmu, &r, gpa(0), 1, 1), MMU_INVALID);
	assert_int_equal(mmu_pin(&a.mmu, &r, gpa(top), 1), MMU_INVALID);
	assert_int_equal(mmu_pin(&a.mmu, &r, gpa(0), 0), 0);
	assert_int_equal(mmu_iterate(&a.mmu, &r, gpa(1), 1, NULL, NULL), MMU_INVALID);
	assert_int_equal(mmu_harvest(&a.mmu, &r, gpa(1), 1, 3, NULL, NULL), MMU_INVALID);
	assert_int_equal(mmu_share_span(&a.mmu, &r, &r, gpa(PAGE)), MMU_INVALID);
	assert_int_equal(mmu_overlay_span(&a.mmu, &r, gpa(PAGE), NULL, NULL, rw), MMU_INVALID);
	assert_int_equal(mmu_translate(&a.mmu, &r, gpa(top), &frame, &attr), MMU_NOT_MAPPED);
	assert_int_equal(mmu_fault(&a.mmu, &r, gpa(top), MMU_READ, &frame), MMU_NOT_MAPPED);
	assert_int_equal(mmu_map(&a.mmu, &r, gpa(top - PAGE), 0, 0, rw), 0);
	assert_int_equal(mmu_tables(&a.mmu), 1);
}

static int stop_at(void *arg, const struct mmu_leaf *leaf)
{
	return leaf->at.v == 3 * PAGE ? 9 : 0;
}

static void test_faults(void **state)
{
	struct mmu_attr ro = { .r = true, .memory_type = 6 };
	uint64_t frame;

	map(&r, 0, 8, ro);
	assert_int_equal(mmu_fault(&a.mmu, &r, gpa(0), MMU_READ, &frame), 0);
	assert_int_equal(frame, frame_at(&r, 0));
	assert_int_equal(mmu_fault(&a.mmu, &r, gpa(0), MMU_EXECUTE, NULL), MMU_DENIED);
	assert_int_equal(mmu_fault(&a.mmu, &r, gpa(0), MMU_WRITE, NULL), MMU_DENIED);
	assert_int_equal(mmu_fault(&a.mmu, &r, gpa(SPAN), MMU_WRITE, NULL), MMU_NOT_MAPPED);
	assert_int_equal(mmu_iterate(&a.mmu, &r, gpa(0), 8, stop_at, NULL), 9);
}

int main(void)
{
#define one(test) cmocka_unit_test_setup_teardown(test, start, end)
	const struct CMUnitTest tests[] = {
		one(test_share_levels),
		one(test_leaves_untouched),
		one(test_break_and_reuse),
		one(test_regions),
		one(test_pins),
		one(test_diff),
		one(test_large_write),
		one(test_discard),
		one(test_hysteresis),
		one(test_visits),
		one(test_dump),
		one(test_runs),
		one(test_invalid),
		one(test_faults),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
