/* SPDX-License-Identifier: Apache-2.0 */
/* Loading an ELF64 executable (System V gABI, chapters 4 and 5) at its physical addresses. */
#ifndef RAMET_VMM_BOOT_ELF_H
#define RAMET_VMM_BOOT_ELF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/boot/boot.h"

struct elf_image {
	uint64_t entry;	     /* e_entry of the file; in some kernels a virtual address */
	uint64_t start, end; /* the range of physical addresses that it occupies */
};

/*
 * Copies the PT_LOAD segments of file[len] into mem. All must be at or above `lowest`. The file is
 * hostile: every field is checked, and nothing is written unless all are right. The part of p_memsz
 * beyond p_filesz is not written, because the memory of a VM that boots is zero. 0 or -ENOEXEC.
 */
int elf_load(const void *file, size_t len, const struct boot_memory *mem, uint64_t lowest,
	struct elf_image *image, struct ramet_err *err);
/* True if the byte at gpa was loaded from this file by elf_load(). */
bool elf_has(const void *file, uint64_t gpa);

#endif
