/* SPDX-License-Identifier: Apache-2.0 */
/* A VM's RAM: where it lies in guest-physical space, and offsets into it. */
#ifndef RAMET_VMM_BASE_RAM_H
#define RAMET_VMM_BASE_RAM_H

#include <stdint.h>

/* RAM as guest-physical ranges; [1] is empty below 3 GiB (see ramet/abi.h). */
struct ram_range {
	uint64_t gpa, len;
};
struct ram_layout {
	struct ram_range r[2];
	unsigned n;
	uint64_t size;
};
void ram_layout_init(struct ram_layout *ram, uint64_t size);

uint64_t ram_gpa(const struct ram_layout *ram, uint64_t off);
/* The RAM offset of [gpa, gpa + len), or -1 unless all of it is in one RAM range. */
int64_t ram_offset(const struct ram_layout *ram, uint64_t gpa, uint64_t len);

#endif
