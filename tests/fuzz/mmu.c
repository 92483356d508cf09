/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libFuzzer target: operations on the table library, seven bytes each, the first input byte
 * choosing the format; with small tables, and the flat model of tests/mmu/ next to them.
 */
#include <string.h>

#include "tests/mmu/harness.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct harness h;
	struct h_op op;

	if (!size)
		return 0;
	h_start(&h, *data & 1 ? &mmu_npt : &mmu_ept);
	for (data++, size--; size >= sizeof(op); size -= sizeof(op), data += sizeof(op)) {
		memcpy(&op, data, sizeof(op));
		h_run(&h, &op);
		h_check(&h);
	}
	h_end(&h);
	return 0;
}
