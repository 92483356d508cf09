/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/base/ram.h"

#include "include/ramet/abi.h"

void ram_layout_init(struct ram_layout *ram, uint64_t size)
{
	uint64_t low = size < RAMET_RAM_HOLE ? size : RAMET_RAM_HOLE;

	*ram = (struct ram_layout){
		.r = { { gpa(0), low }, { gpa(RAMET_RAM_HIGH), size - low } },
		.n = size > low ? 2 : 1,
		.size = size,
	};
}

gpa_t ram_gpa(const struct ram_layout *ram, ram_off_t off)
{
	uint64_t low = ram->r[0].len;

	return gpa(off.v < low ? ram->r[0].gpa.v + off.v : ram->r[1].gpa.v + (off.v - low));
}

bool ram_offset(const struct ram_layout *ram, gpa_t at, uint64_t len, ram_off_t *off)
{
	uint64_t before = 0;

	for (unsigned i = 0; i < ram->n; i++) {
		const struct ram_range *r = &ram->r[i];
		uint64_t in = at.v - r->gpa.v;

		if (at.v >= r->gpa.v && in < r->len && len <= r->len - in) {
			*off = ram_off(before + in);
			return true;
		}
		before += r->len;
	}
	return false;
}
