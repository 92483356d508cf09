/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random operations on ten roots; after each, all roots are compared with the model. RAMET_MMU_OPS
 * is the number of operations (for both formats together), RAMET_SEED the seed. With RAMET_TRACE
 * they are printed.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/mmu/harness.h"

#ifndef DEFAULT_OPS
#define DEFAULT_OPS 1000000
#endif

static uint64_t random64(uint64_t *s)
{
	*s ^= *s << 13;
	*s ^= *s >> 7;
	*s ^= *s << 17;
	return *s * 0x2545f4914f6cdd1dull;
}

/* The mix of operations: many writes, for copy-on-write, and few changes of the scheme. */
static const uint8_t mix[] = { H_MAP, H_MAP, H_MAP, H_UNMAP, H_DISCARD, H_DISCARD, H_PROTECT,
	H_SPLIT, H_MERGE, H_MERGE, H_FORK, H_FORK, H_FORK, H_FORK, H_PUT, H_PUT, H_WRITE, H_WRITE,
	H_WRITE, H_WRITE, H_WRITE, H_READ, H_READ, H_READ, H_PIN, H_UNPIN, H_UNPIN, H_HARVEST,
	H_HARVEST, H_SHARE_SPAN, H_OVERLAY, H_RECLAIM, H_NEW, H_REGION, H_DIFF, H_VISIT, H_VISIT,
	H_DEVICE_WRITE, H_SCHEME };

static void stream(const struct mmu_format *format, uint64_t seed, unsigned long ops)
{
	static struct harness h;
	uint64_t done[H_CODES] = { 0 };
	bool trace = getenv("RAMET_TRACE");

	h_start(&h, format);
	for (unsigned long i = 0; i < ops; i++) {
		uint64_t bits = random64(&seed);
		struct h_op op;

		memcpy(&op, &bits, sizeof(op));
		op.code = mix[op.code % sizeof(mix)];
		if (trace)
			fprintf(stderr, "{ %u, %u, %u, %u, %u, %u, %u }\n", op.code, op.root,
				op.other, op.at, op.n, op.arg, op.fail);
		done[op.code] += h_run(&h, &op) == 0;
		h_check(&h);
	}
	for (unsigned i = 0; i < H_CODES; i++)
		h_require(ops < 100000 || done[i]);
	printf("%lu operations, %llu tables broken, %llu reused, %u flushes\n", ops,
		(unsigned long long)h.mmu.breaks, (unsigned long long)h.mmu.reuses, h.flushes);
	h_end(&h);
}

int main(void)
{
	const char *ops = getenv("RAMET_MMU_OPS"), *seed = getenv("RAMET_SEED");
	unsigned long n = ops ? strtoul(ops, NULL, 0) : DEFAULT_OPS;
	uint64_t s = seed ? strtoull(seed, NULL, 0) : (uint64_t)time(NULL) * 2 + 1;

	printf("RAMET_SEED=%llu\n", (unsigned long long)s);
	fflush(stdout);
	stream(&mmu_ept, s, n / 2);
	stream(&mmu_npt, s, n / 2);
	return 0;
}
