/* SPDX-License-Identifier: Apache-2.0 */
/* The built-in guests; their names and help are in ramet/ramet.h. */
#ifndef GUEST_GUESTS_H
#define GUEST_GUESTS_H

#include <stddef.h>
#include <stdint.h>

/* The ELF image of a built-in guest: static storage. 0, or -ENOENT. */
int guest_image(const char *name, const void **elf, size_t *len);

/* Whether the guest of a VM with that much memory takes these arguments, or none (NULL). 0, -ENOENT
 * (no such guest) or -EINVAL; then `why` has a line about it. */
int guest_args_check(const char *name, const char *args, uint64_t memory, char *why, size_t size);

#endif
