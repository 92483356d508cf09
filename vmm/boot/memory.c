/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/boot/boot.h"

void *boot_mem(const struct boot_memory *mem, uint64_t gpa, uint64_t len)
{
	for (unsigned i = 0; i < mem->ram->n; i++) {
		const struct ram_range *r = &mem->ram->r[i];

		if (gpa >= r->gpa && gpa - r->gpa <= r->len && len <= r->len - (gpa - r->gpa))
			return mem->host[i] + (gpa - r->gpa);
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
