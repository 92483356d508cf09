/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/base/ram.h"

#include "include/ramet/abi.h"

void ram_layout_init(struct ram_layout *ram, uint64_t size)
{
	uint64_t low = size < RAMET_RAM_HOLE ? size : RAMET_RAM_HOLE;

	*ram = (struct ram_layout){
		.r = { { 0, low }, { RAMET_RAM_HIGH, size - low } },
		.n = size > low ? 2 : 1,
		.size = size,
	};
}

uint64_t ram_gpa(const struct ram_layout *ram, uint64_t off)
{
	return off < ram->r[0].len ? ram->r[0].gpa + off : ram->r[1].gpa + (off - ram->r[0].len);
}

int64_t ram_offset(const struct ram_layout *ram, uint64_t gpa, uint64_t len)
{
	uint64_t off = 0;

	for (unsigned i = 0; i < ram->n; i++) {
		const struct ram_range *r = &ram->r[i];

		if (gpa >= r->gpa && gpa - r->gpa < r->len && len <= r->len - (gpa - r->gpa))
			return (int64_t)(off + (gpa - r->gpa));
		off += r->len;
	}
	return -1;
}
