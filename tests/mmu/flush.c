/* SPDX-License-Identifier: Apache-2.0 */
/* Checks the flush that each change requests: exactly the right range, in the right root only. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

#include "tests/mmu/arena.h"

#define PAGE 4096ull
#define SPAN (2ull << 20)
#define GIB  (1ull << 30)
#define RW                                                        \
	{                                                         \
		.r = true, .w = true, .x = true, .memory_type = 6 \
	}
#define PINNED 77 /* a page in the first span */

static const struct mmu_attr rw = RW;
static struct arena a;
static struct mmu_root r, child;

static void nothing(struct mmu_root *root)
{
	assert_int_equal(mmu_flush_take(root).kind, MMU_FLUSH_NOTHING);
}

static void range(struct mmu_root *root, uint64_t from, uint64_t len)
{
	struct mmu_flush f = mmu_flush_take(root);

	assert_int_equal(f.kind, MMU_FLUSH_RANGE);
	assert_int_equal(f.from.v, from);
	assert_int_equal(f.to.v, from + len);
	assert_false(f.moved);
}

static void whole(struct mmu_root *root, bool moved)
{
	struct mmu_flush f = mmu_flush_take(root);

	assert_int_equal(f.kind, MMU_FLUSH_ROOT);
	assert_int_equal(f.moved, moved);
}

static void map(struct mmu_root *root, uint64_t at, uint64_t n, struct mmu_attr attr)
{
	assert_int_equal(mmu_map(&a.mmu, root, gpa(at), n, arena_frames(&a, n, 1u << 18), attr), 0);
}

static int start(void **state)
{
	arena_start(&a, *state ? &mmu_npt : &mmu_ept);
	return mmu_root_init(&a.mmu, &r);
}

static int end(void **state)
{
	mmu_root_put(&a.mmu, &r);
	arena_end(&a);
	return 0;
}

static void test_map(void **state)
{
	struct mmu_attr ro = rw, uc = rw, nx = rw;

	ro.w = false;
	uc.memory_type = 0;
	nx.x = false;
	map(&r, 0, 512, rw);
	nothing(&r);
	map(&r, 5 * PAGE, 2, rw);
	range(&r, 5 * PAGE, 2 * PAGE);
	/* Fewer permissions or another type need a flush. More permissions do not. */
	assert_int_equal(mmu_protect(&a.mmu, &r, gpa(8 * PAGE), 4, ro), 0);
	range(&r, 8 * PAGE, 4 * PAGE);
	assert_int_equal(mmu_protect(&a.mmu, &r, gpa(8 * PAGE), 4, rw), 0);
	nothing(&r);
	assert_int_equal(mmu_protect(&a.mmu, &r, gpa(0), 1, uc), 0);
	range(&r, 0, PAGE);
	assert_int_equal(mmu_protect(&a.mmu, &r, gpa(0), 1, uc), 0);
	nothing(&r);
	assert_int_equal(mmu_protect(&a.mmu, &r, gpa(PAGE), 1, nx), 0);
	range(&r, PAGE, PAGE);
	assert_int_equal(mmu_protect(&a.mmu, &r, gpa(PAGE), 1, rw), 0);
	nothing(&r);
	/* A flush is due where something was mapped, and for the whole slot of a freed table. */
	assert_int_equal(mmu_unmap(&a.mmu, &r, gpa(500 * PAGE), 100), 0);
	range(&r, 500 * PAGE, 12 * PAGE);
	assert_int_equal(mmu_unmap(&a.mmu, &r, gpa(500 * PAGE), 100), 0);
	nothing(&r);
	assert_int_equal(mmu_discard(&a.mmu, &r, gpa(0), 512), 0);
	range(&r, 0, 512 * GIB);
}

/* The tables above are freed, too: the range is that of the highest freed table. */
static void test_unmap_tables(void **state)
{
	map(&r, 0, 1, rw);
	map(&r, GIB, 1, rw);
	map(&r, GIB + SPAN, 1, rw);
	nothing(&r);
	assert_int_equal(mmu_unmap(&a.mmu, &r, gpa(GIB), 1), 0);
	range(&r, GIB, SPAN);
	assert_int_equal(mmu_unmap(&a.mmu, &r, gpa(GIB + SPAN), 1), 0);
	range(&r, GIB, GIB);
}

static void test_large(void **state)
{
	struct mmu_attr large = rw;

	large.level = 2;
	map(&r, GIB, 1024, large);
	nothing(&r);
	assert_int_equal(mmu_split(&a.mmu, &r, gpa(GIB + PAGE), 1, 1), 0);
	range(&r, GIB, SPAN);
	assert_int_equal(mmu_split(&a.mmu, &r, gpa(GIB + PAGE), 1, 1), 0);
	nothing(&r);
	assert_int_equal(mmu_merge(&a.mmu, &r, gpa(GIB), 1024, 2), 0);
	range(&r, GIB, SPAN);
	assert_int_equal(mmu_merge(&a.mmu, &r, gpa(GIB), 1024, 2), 0);
	nothing(&r);
	/* One page of a large leaf is changed: the whole leaf must be flushed. */
	assert_int_equal(mmu_unmap(&a.mmu, &r, gpa(GIB + SPAN + PAGE), 1), 0);
	range(&r, GIB + SPAN, SPAN);
}

static void test_fork(void **state)
{
	uint64_t frame;

	map(&r, 0, 1024, rw);
	for (unsigned share = MMU_SHARE_NONE; share <= MMU_SHARE_ROOT; share++) {
		assert_int_equal(mmu_fork(&a.mmu, &r, share, &child), 0);
		whole(&r, false);
		nothing(&child);
		/* No permission is left to remove: no flush. */
		mmu_root_put(&a.mmu, &child);
		assert_int_equal(mmu_fork(&a.mmu, &r, share, &child), 0);
		nothing(&r);
		mmu_root_put(&a.mmu, &child);
		/* The table is not shared any more: it is reused, which only adds W. */
		assert_int_equal(mmu_touch_write(&a.mmu, &r, gpa(0), &frame), 0);
		nothing(&r);
	}
}

static void test_break(void **state)
{
	static const uint64_t size[] = { 0, SPAN, GIB, 512 * GIB };
	uint64_t frame;

	map(&r, 0, 1024, rw);
	for (unsigned share = MMU_SHARE_PTE; share <= MMU_SHARE_PDPT; share++) {
		assert_int_equal(mmu_fork(&a.mmu, &r, share, &child), 0);
		mmu_flush_take(&r);
		/* The range of the highest copied table covers the rest. Only this root is flushed.
		 */
		assert_int_equal(mmu_touch_write(&a.mmu, &child, gpa(PAGE), &frame), 0);
		range(&child, 0, size[share]);
		nothing(&r);
		/* The next page: only the page is copied. */
		assert_int_equal(mmu_touch_write(&a.mmu, &child, gpa(9 * PAGE), &frame), 0);
		range(&child, 9 * PAGE, PAGE);
		/* On this side only the page is shared. */
		assert_int_equal(mmu_touch_write(&a.mmu, &r, gpa(9 * PAGE), &frame), 0);
		nothing(&r);
		mmu_root_put(&a.mmu, &child);
		assert_int_equal(mmu_touch_write(&a.mmu, &r, gpa(SPAN), &frame), 0);
		assert_int_equal(mmu_touch_write(&a.mmu, &r, gpa(PAGE), &frame), 0);
		nothing(&r);
	}
	assert_int_equal(mmu_fork(&a.mmu, &r, MMU_SHARE_ROOT, &child), 0);
	mmu_flush_take(&r);
	assert_int_equal(mmu_root_phys(&r), mmu_root_phys(&child));
	assert_int_equal(mmu_touch_write(&a.mmu, &child, gpa(PAGE), &frame), 0);
	assert_int_not_equal(mmu_root_phys(&r), mmu_root_phys(&child));
	whole(&child, true);
	nothing(&r);
	mmu_root_put(&a.mmu, &child);
}

static int ignore(void *arg, const struct mmu_leaf *leaf)
{
	++*(unsigned *)arg;
	return 0;
}

static void test_harvest(void **state)
{
	struct mmu_attr used = rw;
	unsigned n = 0;

	used.accessed = used.dirty = true;
	map(&r, 0, 4, rw);
	map(&r, 2 * PAGE, 1, used);
	mmu_flush_take(&r);
	assert_int_equal(mmu_harvest(&a.mmu, &r, gpa(0), 512, MMU_HARVEST_DIRTY, ignore, &n), 0);
	nothing(&r);
	assert_int_equal(mmu_harvest(&a.mmu, &r, gpa(0), 512, MMU_HARVEST_DIRTY | MMU_HARVEST_CLEAR,
				 ignore, &n),
		0);
	range(&r, 2 * PAGE, PAGE);
	assert_int_equal(mmu_harvest(&a.mmu, &r, gpa(0), 512, MMU_HARVEST_DIRTY | MMU_HARVEST_CLEAR,
				 ignore, &n),
		0);
	nothing(&r);
	assert_int_equal(n, 2);
}

static void test_pins(void **state)
{
	map(&r, 0, 512, rw);
	assert_int_equal(mmu_pin(&a.mmu, &r, gpa(PINNED * PAGE), 1), 0);
	nothing(&r);
	assert_int_equal(mmu_fork(&a.mmu, &r, MMU_SHARE_PDPT, &child), 0);
	whole(&r, false);
	assert_int_equal(mmu_unpin(&a.mmu, &r, gpa(PINNED * PAGE), 1), 0);
	nothing(&r);
	/* Breaks the sharing first. */
	assert_int_equal(mmu_pin(&a.mmu, &child, gpa(0), 1), 0);
	range(&child, 0, PAGE);
	mmu_root_put(&a.mmu, &child);
}

static void test_spans(void **state)
{
	uint64_t bitmap[MMU_BITMAP] = { 2 }, frame[MMU_SLOTS] = { 0 };

	map(&r, SPAN, 512, rw);
	assert_int_equal(mmu_root_init(&a.mmu, &child), 0);
	assert_int_equal(mmu_share_span(&a.mmu, &child, &r, gpa(SPAN)), 0);
	range(&r, SPAN, SPAN);
	nothing(&child);
	assert_int_equal(mmu_share_span(&a.mmu, &child, &r, gpa(SPAN)), 0);
	nothing(&r);
	nothing(&child);
	frame[1] = arena_frames(&a, 1, 1);
	assert_int_equal(mmu_overlay_span(&a.mmu, &child, gpa(SPAN), bitmap, frame, rw), 0);
	range(&child, SPAN, SPAN);
	nothing(&r);
	assert_int_equal(mmu_share_span(&a.mmu, &child, &r, gpa(SPAN)), 0);
	range(&child, SPAN, SPAN);
	nothing(&r);
	mmu_root_put(&a.mmu, &child);
}

int main(void)
{
	static int npt = 1;
#define both(test)                                                        \
	cmocka_unit_test_prestate_setup_teardown(test, start, end, NULL), \
		cmocka_unit_test_prestate_setup_teardown(test, start, end, &npt)
	const struct CMUnitTest tests[] = {
		both(test_map),
		both(test_unmap_tables),
		both(test_large),
		both(test_fork),
		both(test_break),
		both(test_harvest),
		both(test_pins),
		both(test_spans),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
