/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs every sequence of RAMET_MMU_DEPTH operations, out of all that are interesting with tables of
 * two slots, from each of several states. Then runs the last operation of each sequence with each
 * of its allocations failing in turn. A failed operation must change nothing.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/mmu/harness.h"

#ifndef DEFAULT_DEPTH
#define DEFAULT_DEPTH 2
#endif

#define ANY H_FAILS /* allocations do not fail */

/* Ranges: a page, a span, half of a large leaf and more, all addresses. */
static const struct {
	uint8_t at, n;
} range[] = { { 0, 0 }, { 3, 0 }, { 0, 1 }, { 2, 3 }, { 1, 6 }, { 0, 15 } };

static struct h_op op[1024];
static unsigned n_ops;

static void add(struct h_op o)
{
	o.fail = ANY;
	op[n_ops++] = o;
}

/* Root 0 always exists; forks make roots 1 and 2. */
static void list_operations(void)
{
	for (uint8_t root = 0; root < 2; root++) {
		for (unsigned i = 0; i < sizeof(range) / sizeof(range[0]); i++) {
			uint8_t at = range[i].at, n = range[i].n;

			/* Writable leaves of level 1, and read-only leaves up to level 3. */
			add((struct h_op){ H_MAP, root, 0, at, n, 0x04, 0 });
			add((struct h_op){ H_MAP, root, 0, at, n, 0x07, 0 });
			add((struct h_op){ H_UNMAP, root, 0, at, n, 0, 0 });
			add((struct h_op){ H_DISCARD, root, 0, at, n, 0, 0 });
			add((struct h_op){ H_PROTECT, root, 0, at, n, 0x00, 0 });
			add((struct h_op){ H_MERGE, root, 0, at, n, 1, 0 });
			add((struct h_op){ H_HARVEST, root, 0, at, n, 7, 0 });
		}
		add((struct h_op){ H_SPLIT, root, 0, 0, 15, 0, 0 });
		add((struct h_op){ H_WRITE, root, 0, 0, 0, 0, 0 });
		add((struct h_op){ H_WRITE, root, 0, 3, 0, 0, 0 });
		add((struct h_op){ H_READ, root, 0, 3, 0, 0, 0 });
		add((struct h_op){ H_PIN, root, 0, 3, 0, 0, 0 });
		add((struct h_op){ H_UNPIN, root, 0, 3, 0, 0, 0 });
		add((struct h_op){ H_SHARE_SPAN, root, 1 - root, 2, 0, 0, 0 });
		add((struct h_op){ H_OVERLAY, root, 0, 2, 1, 0x04, 0 });
		add((struct h_op){ H_DIFF, root, 1 - root, 0, 0, 0, 0 });
		for (uint8_t share = 0; share < 5; share++)
			add((struct h_op){ H_FORK, root, root + 1, 0, 0, share, 0 });
		add((struct h_op){ H_PUT, root, 0, 0, 0, 0, 0 });
	}
	/* Two regions, shared at levels 2 and 1; their border is in the middle of a span. */
	add((struct h_op){ H_REGION, 0, 0, 0, 2, 2 + 5, 0 });
}

static struct harness h;
static unsigned long sequences, failures;

/* Runs a sequence from the start. In the last operation the k-th allocation fails. */
static int replay(const struct mmu_format *format, const struct h_op *start,
	const unsigned *sequence, unsigned depth, uint8_t fail)
{
	int r = 0;

	h_start(&h, format);
	for (unsigned i = 0; start[i].fail; i++)
		h_run(&h, &start[i]);
	for (unsigned i = 0; i < depth; i++) {
		struct h_op o = op[sequence[i]];

		if (i + 1 == depth)
			o.fail = fail;
		r = h_run(&h, &o);
	}
	h_check(&h);
	h_end(&h);
	return r;
}

static void all_sequences(const struct mmu_format *format, const struct h_op *start,
	unsigned *sequence, unsigned depth, unsigned max)
{
	for (unsigned i = 0; i < n_ops; i++) {
		uint8_t fail = 0;

		sequence[depth] = i;
		replay(format, start, sequence, depth + 1, ANY);
		sequences++;
		while (replay(format, start, sequence, depth + 1, fail) == MMU_NO_MEMORY) {
			fail += 2;
			failures++;
			h_require(fail < H_FAILS);
		}
		if (depth + 1 < max)
			all_sequences(format, start, sequence, depth + 1, max);
	}
}

int main(void)
{
	static const struct h_op empty[] = { { 0 } };
	static const struct h_op mapped[] = { { H_MAP, 0, 0, 0, 15, 0x04, ANY }, { 0 } };
	static const struct h_op large[] = { { H_MAP, 0, 0, 0, 15, 0x07, ANY }, { 0 } };
	static const struct h_op forked[] = { { H_MAP, 0, 0, 0, 11, 0x06, ANY },
		{ H_FORK, 0, 1, 0, 0, 3, ANY }, { H_FORK, 1, 2, 0, 0, 1, ANY }, { 0 } };
	static const struct h_op *const start[] = { empty, mapped, large, forked };
	const char *depth = getenv("RAMET_MMU_DEPTH");
	unsigned max = depth ? (unsigned)strtoul(depth, NULL, 0) : DEFAULT_DEPTH, sequence[16];

	list_operations();
	for (unsigned i = 0; i < sizeof(start) / sizeof(start[0]); i++) {
		all_sequences(&mmu_ept, start[i], sequence, 0, max);
		all_sequences(&mmu_npt, start[i], sequence, 0, max > 2 ? 2 : max);
	}
	printf("%u operations, %lu sequences, %lu failed allocations\n", n_ops, sequences,
		failures);
	h_require(failures);
	return 0;
}
