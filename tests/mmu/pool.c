/* SPDX-License-Identifier: Apache-2.0 */
/* The frame pool against a flat array of counts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "include/ramet/pool.h"

#define BLOCKS 8u
#define FRAMES (BLOCKS * POOL_BLOCK_FRAMES)

struct fixture {
	struct pool pool;
	void *memory;
	uint32_t refs[FRAMES];
	bool idle[FRAMES]; /* no references, but not freed yet */
};

static void on_idle(void *ctx, uint64_t first, uint64_t n)
{
	struct fixture *f = ctx;

	assert_int_equal(first / POOL_BLOCK_FRAMES, (first + n - 1) / POOL_BLOCK_FRAMES);
	for (uint64_t i = first; i < first + n; i++) {
		assert_false(f->idle[i]);
		f->idle[i] = true;
	}
}

static const struct pool_ops ops = { on_idle };

static int start(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	if (!f)
		return -1;
	f->memory = calloc(1, pool_memory(BLOCKS));
	pool_init(&f->pool, BLOCKS, f->memory, &ops, f);
	*state = f;
	return 0;
}

static int end(void **state)
{
	struct fixture *f = *state;

	free(f->memory);
	free(f);
	return 0;
}

static void taken(struct fixture *f, uint64_t first, uint64_t n)
{
	for (uint64_t i = first; i < first + n; i++) {
		assert_true(i < FRAMES && !f->refs[i] && !f->idle[i]);
		f->refs[i] = 1;
	}
}

static void give_back(struct fixture *f)
{
	for (uint64_t i = 0; i < FRAMES; i++)
		if (f->idle[i]) {
			f->idle[i] = false;
			pool_free(&f->pool, i, 1);
		}
}

static void check(struct fixture *f)
{
	uint64_t in_use = 0;

	for (uint64_t i = 0; i < FRAMES; i++) {
		assert_int_equal(pool_refs(&f->pool, i), f->refs[i]);
		assert_true(!f->idle[i] || !f->refs[i]);
		in_use += f->refs[i] > 0;
	}
	assert_int_equal(f->pool.in_use, in_use);
}

static void test_runs(void **state)
{
	struct fixture *f = *state;
	uint64_t first;

	assert_int_equal(pool_alloc_zero(&f->pool, 1024, &first), 0);
	assert_int_equal(first % POOL_BLOCK_FRAMES, 0);
	taken(f, first, 1024);
	assert_int_equal(pool_alloc(&f->pool, 1024, &first), 0);
	taken(f, first, 1024);
	/* More frames than there are, and more than were never used. */
	assert_int_equal(pool_alloc(&f->pool, FRAMES, &first), -12);
	assert_int_equal(pool_alloc_zero(&f->pool, FRAMES - 1024, &first), -12);
	assert_int_equal(pool_alloc(&f->pool, 512, &first), 0);
	taken(f, first, 512);
	check(f);
	pool_put(&f->pool, first, 512);
	memset(&f->refs[first], 0, 512 * sizeof(f->refs[0]));
	check(f);
	give_back(f);
	/* A block that is free again is used before new ones. */
	assert_int_equal(pool_alloc(&f->pool, 512, &first), 0);
	assert_int_equal(first, 2048);
	taken(f, first, 512);
	check(f);
	assert_int_equal(f->pool.peak, 2048 + 512);
}

/* Random operations, until the pool is empty, and then until all is free again. */
static void test_random(void **state)
{
	struct fixture *f = *state;
	unsigned failed = 0;

	srand(1);
	for (unsigned i = 0; i < 20000; i++) {
		uint64_t at = (unsigned)rand() % FRAMES, n = 1 + (unsigned)rand() % 300;
		uint64_t len = 0, first;

		switch (rand() % 4) {
		case 0:
			if (pool_alloc(&f->pool, n, &first))
				failed++;
			else
				taken(f, first, n);
			break;
		case 1:
			while (len < n && at + len < FRAMES && f->refs[at + len])
				len++;
			pool_get(&f->pool, at, len);
			for (uint64_t k = at; k < at + len; k++)
				f->refs[k]++;
			break;
		case 2:
			while (len < n && at + len < FRAMES && f->refs[at + len])
				f->refs[at + len++]--;
			pool_put(&f->pool, at, len);
			break;
		default:
			give_back(f);
		}
		if (i % 16 == 0)
			check(f);
	}
	assert_true(failed);
	for (uint64_t i = 0; i < FRAMES; i++)
		while (f->refs[i]) {
			f->refs[i]--;
			pool_put(&f->pool, i, 1);
		}
	give_back(f);
	check(f);
	assert_int_equal(f->pool.in_use, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_runs, start, end),
		cmocka_unit_test_setup_teardown(test_random, start, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
