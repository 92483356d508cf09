/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/boot/boot.h"

void *boot_mem(const struct boot_memory *mem, gpa_t at, uint64_t len)
{
	for (unsigned i = 0; i < mem->ram->n; i++) {
		const struct ram_range *r = &mem->ram->r[i];

		uint64_t in = at.v - r->gpa.v;

		if (at.v >= r->gpa.v && in <= r->len && len <= r->len - in)
			return mem->host[i] + in;
	}
	return NULL;
}

struct kvm_segment boot_segment(uint16_t selector, uint8_t type)
{
	return (struct kvm_segment){
		.limit = 0xffffffff,
		.selector = selector,
		.type = type,
		.present = 1,
		.s = 1,
		.g = 1,
		.db = 1,
	};
}
