/* SPDX-License-Identifier: Apache-2.0 */
/* A VM's RAM: its guest-physical ranges, and offsets into it. */
#ifndef RAMET_VMM_BASE_RAM_H
#define RAMET_VMM_BASE_RAM_H

#include <stdbool.h>
#include <stdint.h>

#include "include/ramet/gpa.h"
#include "vmm/base/units.h"

/* RAM as guest-physical ranges; [1] is empty below 3 GiB (see ramet/abi.h). */
struct ram_range {
	gpa_t gpa;
	uint64_t len;
};
struct ram_layout {
	struct ram_range r[2];
	unsigned n;
	uint64_t size;
};
void ram_layout_init(struct ram_layout *ram, uint64_t size);

gpa_t ram_gpa(const struct ram_layout *ram, ram_off_t off);
/* The RAM offset of [at, at + len). False unless all of it is in one RAM range. */
bool ram_offset(const struct ram_layout *ram, gpa_t at, uint64_t len, ram_off_t *off);

#endif
