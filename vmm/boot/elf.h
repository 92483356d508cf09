/* SPDX-License-Identifier: Apache-2.0 */
/* Loading an ELF64 executable (System V gABI, chapters 4 and 5) at its physical addresses. */
#ifndef RAMET_VMM_BOOT_ELF_H
#define RAMET_VMM_BOOT_ELF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/boot/boot.h"

struct elf_image {
	uint64_t entry;	     /* e_entry, as the file has it: a virtual address in some kernels */
	uint64_t start, end; /* the physical addresses it occupies */
};

/*
 * Copies the PT_LOAD segments of file[len] into mem, all of them at or above `lowest`. The file is
 * hostile: every field is checked, and nothing is written unless all are right. What p_memsz has
 * beyond p_filesz is left alone: memory that is being filled for a boot is zero. 0 or -ENOEXEC.
 */
int elf_load(const void *file, size_t len, const struct boot_memory *mem, uint64_t lowest,
	struct elf_image *image, struct ramet_err *err);
/* Whether the byte at gpa comes out of this file, which elf_load() has loaded. */
bool elf_has(const void *file, uint64_t gpa);

#endif
