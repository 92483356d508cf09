/* SPDX-License-Identifier: Apache-2.0 */
/* A base file, and disks of one family next to a model: an array of bytes for each. */
#ifndef RAMET_TESTS_UNIT_DISK_COMMON_H
#define RAMET_TESTS_UNIT_DISK_COMMON_H

#include <stddef.h>
#include <stdint.h>

#include "vmm/devices/disk.h"

#define SIZE  (300u * DISK_CLUSTER + 3 * DISK_SECTOR) /* the last cluster is not whole */
#define DISKS 6u

extern char path[64]; /* of the base */

uint8_t base_byte(size_t i);
int make_base(void **state);
int remove_base(void **state);
void assert_base_unchanged(void);

struct model {
	struct disk *disk[DISKS];
	uint8_t *bytes[DISKS];
	unsigned n;
};

void model_open(struct model *m);
void model_clone(struct model *m, unsigned i);
void model_free(struct model *m, unsigned i);
/* Reads or writes a random range, with memory in random pieces. */
void model_write(struct model *m, unsigned i);
void model_read(struct model *m, unsigned i);
/* Compares and frees all disks, one after the other. */
void model_end(struct model *m);

#endif
