/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Booting Linux without firmware: the map of guest memory, and the steps of loading. docs/linux.md
 * explains the rest.
 *
 *   0x00000500  GDT
 *   0x00000600  the entry point, stored between load and start
 *   0x00007000  boot_params (bzImage) or start_info and what it points to (PVH)
 *   0x00008000  command line
 *   0x0000fff0  setup_data header, directly before the device tree
 *   0x00010000  the device tree (RAMET_GPA_FDT)
 *   0x00020000  page tables of the 64-bit entry (RAMET_GPA_TABLES)
 *   0x0009fc00  -- end of the RAM below 1 MiB that E820 reports as usable
 *   0x000e0000  ACPI tables, RSDP first
 *   0x000f0000  page of the VM generation id
 *   0x000ffff0  the reset vector of a PC: code that requests a reset, for guests that jump here
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

/* The result of loading a kernel file. */
struct linux_image {
	bool pvh;
	uint64_t entry;	      /* GPA of the first instruction */
	uint64_t start, end;  /* the GPAs that the kernel uses while it starts */
	uint64_t initrd_end;  /* the initrd must end at or below this GPA */
	uint32_t cmdline_max; /* without the NUL */
};

/*
 * Load a kernel file, which is hostile: copy it to the address that it asks for, or report what is
 * wrong. The bzImage loader also writes the first part of boot_params, at LINUX_GPA_PARAMS.
 * 0, -ENOEXEC, or -ENOSPC: RAM is too small for the kernel.
 */
int linux_load_image(const void *file, size_t len, const struct boot_memory *mem,
	struct linux_image *image, struct ramet_err *err);
int bzimage_load(const void *file, size_t len, const struct boot_memory *mem,
	struct linux_image *image, struct ramet_err *err);
int pvh_load(const void *file, size_t len, const struct boot_memory *mem, struct linux_image *image,
	struct ramet_err *err);

/* Parameters for the kernel's start, known when everything has been loaded. */
struct linux_params {
	uint64_t initrd, initrd_len; /* 0, 0: none */
	uint32_t fdt_len;
};
void bzimage_params(const struct boot_memory *mem, const struct linux_params *params);
void pvh_params(const struct boot_memory *mem, const struct linux_params *params);

/* The map of memory, for both protocols. type: an E820 type. */
struct linux_region {
	uint64_t addr, len;
	uint32_t type;
};
#define LINUX_REGIONS_MAX 5u
unsigned linux_regions(const struct ram_layout *ram, struct linux_region *region);

/* The smallest valid --memory whose RAM reaches up to `end`. */
uint64_t linux_memory_for(uint64_t end);

/* Writes the ACPI tables to LINUX_GPA_ACPI. 0 or -ENOSPC. */
int acpi_build(const struct boot_memory *mem, unsigned cpus);

#endif
