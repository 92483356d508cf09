/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Booting Linux without firmware: where things lie in guest memory, and the steps of loading.
 * docs/linux.md has the whole picture.
 *
 *   0x00000500  GDT
 *   0x00000600  the entry, noted from load to start
 *   0x00007000  boot_params (bzImage) or start_info and what it points to (PVH)
 *   0x00008000  command line
 *   0x0000fff0  setup_data header, at once followed by
 *   0x00010000  the device tree (RAMET_GPA_FDT)
 *   0x00020000  page tables of the 64-bit entry (RAMET_GPA_TABLES)
 *   0x0009fc00  -- end of what E820 calls usable below 1 MiB
 *   0x000e0000  ACPI tables, RSDP first
 *   0x000f0000  page of the VM generation id
 *   0x000ffff0  what a PC starts with, and a guest that reboots: here, it asks for the reset
 *   0x00100000  -- usable again up to the end of RAM: kernel, and the initrd as high as allowed
 */
#ifndef RAMET_VMM_BOOT_LINUX_H
#define RAMET_VMM_BOOT_LINUX_H

#include <linux/kvm.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/board.h"
#include "vmm/boot/boot.h"

#define LINUX_GPA_GDT	  0x00000500u
#define LINUX_GPA_ENTRY	  0x00000600u
#define LINUX_GPA_PARAMS  0x00007000u
#define LINUX_GPA_CMDLINE 0x00008000u
#define LINUX_CMDLINE_MAX 0x00002000u /* with its NUL; the kernel's own limit is lower */
#define LINUX_LOW_END	  0x0009fc00u
#define LINUX_GPA_ACPI	  0x000e0000u
#define LINUX_ACPI_MAX	  0x00010000u
#define LINUX_GPA_RESET	  0x000ffff0u
#define LINUX_HIGH_START  0x00100000u

/* What loading a kernel file found out. */
struct linux_image {
	bool pvh;
	uint64_t entry;	      /* GPA of the first instruction */
	uint64_t start, end;  /* GPAs the kernel takes while it starts */
	uint64_t initrd_end;  /* the initrd has to end at or below this */
	uint32_t cmdline_max; /* without the NUL */
};

/*
 * One kernel file, hostile: it is copied to where it wants to be, or an error tells what is wrong.
 * boot_params is written by the bzImage loader, for a start at LINUX_GPA_PARAMS.
 * 0, -ENOEXEC, or -ENOSPC when RAM is too small for it.
 */
int linux_load_image(const void *file, size_t len, const struct boot_memory *mem,
	struct linux_image *image, struct ramet_err *err);
int bzimage_load(const void *file, size_t len, const struct boot_memory *mem,
	struct linux_image *image, struct ramet_err *err);
int pvh_load(const void *file, size_t len, const struct boot_memory *mem, struct linux_image *image,
	struct ramet_err *err);

/* What the kernel is told at its start, once all of it is in place. */
struct linux_params {
	uint64_t initrd, initrd_len; /* 0, 0: none */
	uint32_t fdt_len;
};
void bzimage_params(const struct boot_memory *mem, const struct linux_params *params);
void pvh_params(const struct boot_memory *mem, const struct linux_params *params);

/* The map of memory; type is an E820 type. Both protocols use it. */
struct linux_region {
	uint64_t addr, len;
	uint32_t type;
};
#define LINUX_REGIONS_MAX 5u
unsigned linux_regions(const struct ram_layout *ram, struct linux_region *region);

/* The least size of memory that reaches up to `end`, as --memory takes it. */
uint64_t linux_memory_for(uint64_t end);

/* Puts the ACPI tables at LINUX_GPA_ACPI. 0 or -ENOSPC. */
int acpi_build(const struct boot_memory *mem, unsigned cpus);

#endif
