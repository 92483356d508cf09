/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Resolving spans without a VM: generations over real views. The tests count how often memory.lock
 * is taken for a span, since all fault threads of a family share this lock.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "vmm/fork/fill.h"
#include "vmm/fork/populate.h"

#define SPANS 4u
#define MAGIC 0x5a

/* How often memory.lock is taken to fill a span. The overlay has: no private page of the span;
 * pages that the VM wrote to; or pages of which some are only copies. */
enum { LOCKS_EMPTY = 1, LOCKS_PAGES = 2, LOCKS_COPIES = 3 };
/* How often it is taken to resolve the base's span first. This needs no runs, and the base itself
 * has no base to share a table with. */
enum { LOCKS_BASE_PAGES = 2, LOCKS_BASE_COPIES = 3 };

/* A family without VMs. A "shell" is a view only. */
static struct {
	struct ram_layout ram;
	struct memory memory;
	struct view_arena arena;
	struct generations set;
	bool has_arena;
} f;

static unsigned locked; /* times that memory.lock was taken */

int __real_pthread_mutex_lock(pthread_mutex_t *lock);
int __wrap_pthread_mutex_lock(pthread_mutex_t *lock);
int __wrap_pthread_mutex_lock(pthread_mutex_t *lock)
{
	locked += (void *)lock == (void *)&f.memory.lock;
	return __real_pthread_mutex_lock(lock);
}

static void idle(void *arg, struct generation *g)
{
	generation_free(g);
}

static void lost(struct view *view)
{
}

static int setup_blocks(uint64_t blocks)
{
	static const struct view_source source = { generation_fill, lost };

	ram_layout_init(&f.ram, SPANS * SPAN_SIZE);
	if (memory_init(&f.memory, &f.ram, blocks * SPAN_SIZE))
		return -1;
	f.has_arena = !view_arena_init(&f.arena, f.ram.size, f.memory.fd);
	generations_init(&f.set, &f.memory, &f.ram, NULL, &source);
	f.set.idle = idle;
	return 0;
}

static int setup(void **state)
{
	return setup_blocks(64);
}

/* RAM, one block for short runs, and nothing else. */
static int setup_small(void **state)
{
	return setup_blocks(SPANS + 1);
}

static int teardown(void **state)
{
	generations_destroy(&f.set);
	if (f.has_arena)
		view_arena_destroy(&f.arena);
	memory_destroy(&f.memory);
	return 0;
}

/* The first generation: all zero. */
static struct generation *birth(void)
{
	struct mmu_root *root;
	struct generation *g;
	frame_t frame;

	if (!f.has_arena)
		skip(); /* userfaultfd(2) is not allowed here */
	assert_int_equal(memory_new_root(&f.memory, &root, &frame), 0);
	assert_int_equal(generation_new(&f.set, root, &g), 0);
	return g;
}

static struct view *view_of(struct generation *g)
{
	struct view *view;

	assert_int_equal(view_new(&f.arena, &view), 0);
	view_set_source(view, &g->source);
	return view;
}

static int fill(struct view *view, uint64_t span)
{
	int r;

	lock_take(&view->lock);
	r = generation_fill(view, span_nr(span), -1, TOUCH_READ);
	lock_release(&view->lock);
	return r;
}

static uint8_t *page_at(struct view *view, uint64_t span, unsigned page)
{
	return view_at(view, off_add(span_off(span_nr(span)), (uint64_t)page * PAGE_SIZE));
}

/* Freezes the VM that runs on a view born from g, as a fork does. */
static struct generation *freeze(struct view *view, struct generation *g, struct shell *shell)
{
	struct generation *branch;

	*shell = (struct shell){ .view = view };
	assert_int_equal(generation_branch(g, &branch), 0);
	branch->overlay = shell;
	view_set_source(view, NULL);
	return branch;
}

static void put(struct generation *g)
{
	if (g->overlay) {
		view_free(g->overlay->view);
		g->overlay = NULL; /* it is in no pool */
	}
	generation_put(g);
}

/* Checks that the counts are exactly those that these generations cause. */
static void check(struct generation *a, struct generation *b, struct generation *c)
{
	struct mmu_root *root[3] = { a->root, b->root, c ? c->root : NULL };
	struct ramet_err err = { "" };

	if (memory_check(&f.memory, root, c ? 3 : 2, &err))
		fail_msg("%s", err.msg);
}

static void fill_counted(struct view *view, uint64_t span, unsigned locks)
{
	unsigned before = locked, n;

	assert_int_equal(fill(view, span), 0);
	n = locked - before;
	print_message("span %u: memory.lock taken %u times\n", (unsigned)span, n);
	assert_int_equal(n, locks);
}

/* Span 0: nothing written. 1: two runs of pages. 2: every page. 3: copies of which one was written
 * to. */
static void write_spans(struct view *view)
{
	*page_at(view, 1, 7) = MAGIC;
	memset(page_at(view, 1, 100), MAGIC, 8 * PAGE_SIZE);
	memset(page_at(view, 2, 0), MAGIC, SPAN_SIZE);
	lock_take(&view->lock);
	view_copy_ahead(view, span_off(span_nr(3)), SPAN_SIZE);
	lock_release(&view->lock);
	*page_at(view, 3, 511) = MAGIC;
}

static void assert_spans(struct view *view)
{
	for (unsigned p = 0; p < SPAN_PAGES; p++) {
		assert_int_equal(*page_at(view, 0, p), 0);
		assert_int_equal(*page_at(view, 1, p), p == 7 || (p >= 100 && p < 108) ? MAGIC : 0);
		assert_int_equal(*page_at(view, 2, p), MAGIC);
		assert_int_equal(*page_at(view, 3, p), p == 511 ? MAGIC : 0);
	}
}

static void test_locks(void **state)
{
	struct generation *first = birth(), *second;
	struct view *old = view_of(first), *born;
	struct shell shell;

	assert_int_equal(generation_populate(old, first), 0);
	write_spans(old);
	second = freeze(old, first, &shell);
	born = view_of(second);
	fill_counted(born, 0, LOCKS_EMPTY);
	fill_counted(born, 1, LOCKS_PAGES);
	fill_counted(born, 2, LOCKS_PAGES);
	fill_counted(born, 3, LOCKS_COPIES);
	assert_spans(born);
	check(first, second, NULL);
	view_free(born);
	born = view_of(second);
	/* Now they are resolved. */
	for (unsigned s = 0; s < SPANS; s++)
		fill_counted(born, s, 1);
	assert_spans(born);
	view_free(born);
	put(second);
	put(first);
}

/* A generation whose base has not been resolved either. */
static void test_chain(void **state)
{
	struct generation *first = birth(), *second, *third;
	struct view *a = view_of(first), *b, *born;
	struct shell shell[2];

	assert_int_equal(generation_populate(a, first), 0);
	write_spans(a);
	second = freeze(a, first, &shell[0]);
	b = view_of(second);
	assert_int_equal(fill(b, 1), 0);
	*page_at(b, 1, 8) = 1;
	third = freeze(b, second, &shell[1]);
	born = view_of(third);
	fill_counted(born, 0, LOCKS_EMPTY);
	fill_counted(born, 1, LOCKS_PAGES);
	fill_counted(born, 2, LOCKS_BASE_PAGES + LOCKS_EMPTY);
	fill_counted(born, 3, LOCKS_BASE_COPIES + LOCKS_EMPTY);
	assert_int_equal(*page_at(born, 1, 8), 1);
	*page_at(born, 1, 8) = 0;
	assert_spans(born);
	check(first, second, third);
	view_free(born);
	put(third);
	put(second);
	put(first);
}

/* No more frames: the span stays deferred, no count changes, and it is resolved once there are. */
static void test_no_frames(void **state)
{
	struct generation *first = birth(), *second;
	struct view *old = view_of(first), *born;
	struct shell shell;
	uint64_t taken;

	assert_int_equal(generation_populate(old, first), 0);
	memset(page_at(old, 1, 0), MAGIC, (size_t)20 * PAGE_SIZE);
	second = freeze(old, first, &shell);
	born = view_of(second);
	memory_grant(&f.memory, (uint64_t)19 * PAGE_SIZE);
	assert_int_equal(fill(born, 1), -ENOMEM);
	assert_int_equal(second->span[1], GEN_DEFERRED);
	assert_true(memory_charge(&f.memory, (uint64_t)19 * PAGE_SIZE)); /* nothing was charged */
	memory_grant(&f.memory, UINT64_MAX);
	assert_int_equal(pool_alloc(&f.memory.pool, 500, &taken), 0);
	assert_int_equal(fill(born, 1), -ENOMEM);
	assert_int_equal(second->span[1], GEN_DEFERRED);
	pool_put(&f.memory.pool, taken, 500);
	assert_int_equal(fill(born, 1), 0);
	assert_int_equal(*page_at(born, 1, 19), MAGIC);
	assert_int_equal(*page_at(born, 1, 20), 0);
	check(first, second, NULL);
	view_free(born);
	put(second);
	put(first);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_locks, setup, teardown),
		cmocka_unit_test_setup_teardown(test_chain, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_frames, setup_small, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
