/* SPDX-License-Identifier: Apache-2.0 */
/* The built-in guests; their names and help are in ramet/ramet.h. */
#ifndef GUEST_GUESTS_H
#define GUEST_GUESTS_H

#include <stddef.h>

/* The ELF image of a built-in guest: static storage. 0, or -ENOENT. */
int guest_image(const char *name, const void **elf, size_t *len);

#endif
