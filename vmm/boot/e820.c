/* SPDX-License-Identifier: Apache-2.0 */
/* The map of memory for a Linux kernel. */
#include "vmm/boot/linux.h"

enum { E820_RAM = 1, E820_RESERVED = 2 };

unsigned linux_regions(const struct ram_layout *ram, struct linux_region *region)
{
	unsigned n = 0;

	region[n++] = (struct linux_region){ 0, LINUX_LOW_END, E820_RAM };
	region[n++] =
		(struct linux_region){ LINUX_LOW_END, 0xa0000 - LINUX_LOW_END, E820_RESERVED };
	region[n++] = (struct linux_region){ LINUX_GPA_ACPI, LINUX_HIGH_START - LINUX_GPA_ACPI,
		E820_RESERVED };
	region[n++] = (struct linux_region){ LINUX_HIGH_START, ram->r[0].len - LINUX_HIGH_START,
		E820_RAM };
	if (ram->n > 1)
		region[n++] = (struct linux_region){ ram->r[1].gpa.v, ram->r[1].len, E820_RAM };
	return n;
}

uint64_t linux_memory_for(uint64_t end)
{
	const uint64_t step = 2u << 20;
	uint64_t size = (end + step - 1) & ~(step - 1);

	return size < RAMET_MEMORY_MIN ? RAMET_MEMORY_MIN : size;
}
