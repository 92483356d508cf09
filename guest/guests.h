/* SPDX-License-Identifier: Apache-2.0 */
/* The built-in guests; their names and help are in ramet/ramet.h. */
#ifndef GUEST_GUESTS_H
#define GUEST_GUESTS_H

#include <stddef.h>
#include <stdint.h>

/* Returns the ELF image of a built-in guest, in static storage. 0, or -ENOENT. */
int guest_image(const char *name, const void **elf, size_t *len);

/* Checks whether the guest, in a VM with `memory` bytes, accepts these arguments (NULL: none). 0,
 * -ENOENT (no such guest) or -EINVAL. After an error `why` has one line with the reason. */
int guest_args_check(const char *name, const char *args, uint64_t memory, char *why, size_t size);

#endif
