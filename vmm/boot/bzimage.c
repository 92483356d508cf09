/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loads a bzImage with the 64-bit boot protocol. Source, also of the field names: Linux
 * Documentation/arch/x86/boot.rst. Versions before 2.12 (Linux 3.8) have no 64-bit entry at a known
 * place.
 */
#include <asm/bootparam.h>
#include <errno.h>
#include <string.h>

#include "include/ramet/abi.h"
#include "vmm/boot/linux.h"

#define HDR_OFFSET   0x1f1u
#define HDR_MAGIC    0x53726448u /* "HdrS" */
#define BOOT_FLAG    0xaa55u
#define VERSION_MIN  0x020cu
#define SECTOR	     512u
#define ENTRY64	     0x200u /* from the start of the protected-mode kernel */
#define LOADER_OTHER 0xffu

_Static_assert(offsetof(struct boot_params, hdr) == HDR_OFFSET, "the header is where it is");
_Static_assert(sizeof(struct boot_params) <= LINUX_GPA_CMDLINE - LINUX_GPA_PARAMS, "fits");
_Static_assert(sizeof(struct setup_data) == 16, "the device tree follows its header at once");

/* Reads the header of the file. Fields beyond the header's stated end become zero. */
static int read_header(const uint8_t *file, size_t len, struct setup_header *hdr)
{
	/* The byte at 0x201 is the displacement of a jump to the end of the header. */
	size_t end = 0x202, want;

	if (len < end + 2)
		return -ENOEXEC;
	end += file[0x201];
	want = end - HDR_OFFSET < sizeof(*hdr) ? end - HDR_OFFSET : sizeof(*hdr);
	if (HDR_OFFSET + want > len)
		return -ENOEXEC;
	memset(hdr, 0, sizeof(*hdr));
	memcpy(hdr, file + HDR_OFFSET, want);
	return 0;
}

static bool is_power_of_2(uint32_t n)
{
	return n && !(n & (n - 1));
}

static const char *header_fault(const struct setup_header *hdr)
{
	if (hdr->boot_flag != BOOT_FLAG || hdr->header != HDR_MAGIC)
		return "neither a bzImage nor an ELF file";
	if (hdr->version < VERSION_MIN)
		return "a boot protocol older than 2.12";
	if (!(hdr->loadflags & LOADED_HIGH) || !(hdr->xloadflags & XLF_KERNEL_64))
		return "no 64-bit entry point (a 32-bit kernel?)";
	if (!hdr->relocatable_kernel && hdr->pref_address < LINUX_HIGH_START)
		return "it wants to be loaded below 1 MiB";
	if (hdr->relocatable_kernel && !is_power_of_2(hdr->kernel_alignment))
		return "its alignment is no power of two";
	return NULL;
}

/*
 * The kernel's preferred address, rounded up to its alignment. Never below: a kernel that was
 * loaded below moves itself up to its preferred address without checking that there is RAM
 * (boot.rst, init_size).
 */
static uint64_t preferred(const struct setup_header *hdr)
{
	uint64_t at = hdr->pref_address, align = hdr->kernel_alignment;

	if (!hdr->relocatable_kernel)
		return at;
	if (at < LINUX_HIGH_START)
		at = LINUX_HIGH_START;
	return at > UINT64_MAX - align ? at : (at + align - 1) & ~(align - 1);
}

static int place(const struct setup_header *hdr, uint64_t size, const struct boot_memory *mem,
	uint64_t *at, struct ramet_err *err)
{
	*at = preferred(hdr);
	if (*at < mem->ram->r[0].len && boot_mem(mem, gpa(*at), size))
		return 0;
	if (*at >= RAMET_RAM_HOLE || size > RAMET_RAM_HOLE - *at)
		return err_set(err, -ENOSPC,
			"it needs %llu MiB from %llu MiB on, where this machine never has RAM",
			(unsigned long long)(size >> 20) + 1, (unsigned long long)*at >> 20);
	return err_set(err, -ENOSPC,
		"it uses %llu MiB from %llu MiB on to start: it needs --memory %lluM or more",
		(unsigned long long)(size >> 20) + 1, (unsigned long long)*at >> 20,
		(unsigned long long)linux_memory_for(*at + size) >> 20);
}

int bzimage_load(const void *file, size_t len, const struct boot_memory *mem,
	struct linux_image *image, struct ramet_err *err)
{
	struct boot_params *bp = boot_mem(mem, gpa(LINUX_GPA_PARAMS), sizeof(*bp));
	struct setup_header hdr;
	const char *fault;
	uint64_t setup, body, size, at;
	int ret;

	if (read_header(file, len, &hdr))
		return err_set(err, -ENOEXEC, "too short for a bzImage");
	fault = header_fault(&hdr);
	if (fault)
		return err_set(err, -ENOEXEC, "%s", fault);
	setup = ((hdr.setup_sects ? hdr.setup_sects : 4) + 1ull) * SECTOR;
	body = hdr.syssize * 16ull; /* rounded up: the file may end up to 15 bytes earlier */
	if (setup >= len || body > (len - setup + 15) || body <= ENTRY64)
		return err_set(err, -ENOEXEC, "cut off: the file has %zu bytes of %llu", len,
			(unsigned long long)(setup + body));
	body = body < len - setup ? body : len - setup;
	size = hdr.init_size > body ? hdr.init_size : body;
	ret = place(&hdr, size, mem, &at, err);
	if (ret)
		return ret;

	memset(bp, 0, sizeof(*bp));
	bp->hdr = hdr;
	memcpy(boot_mem(mem, gpa(at), body), (const uint8_t *)file + setup, body);
	*image = (struct linux_image){
		.entry = at + ENTRY64,
		.start = at,
		.end = at + size,
		.initrd_end = hdr.initrd_addr_max + 1ull,
		.cmdline_max = hdr.cmdline_size,
	};
	return 0;
}

static void set_e820(struct boot_params *bp, const struct ram_layout *ram)
{
	struct linux_region region[LINUX_REGIONS_MAX];
	unsigned n = linux_regions(ram, region);

	for (unsigned i = 0; i < n; i++)
		bp->e820_table[i] = (struct boot_e820_entry){
			.addr = region[i].addr,
			.size = region[i].len,
			.type = region[i].type,
		};
	bp->e820_entries = (uint8_t)n;
}

void bzimage_params(const struct boot_memory *mem, const struct linux_params *params)
{
	struct boot_params *bp = boot_mem(mem, gpa(LINUX_GPA_PARAMS), sizeof(*bp));
	struct setup_data *sd = boot_mem(mem, gpa(RAMET_GPA_FDT - sizeof(*sd)), sizeof(*sd));

	*sd = (struct setup_data){ .type = SETUP_DTB, .len = params->fdt_len };
	bp->hdr.type_of_loader = LOADER_OTHER;
	bp->hdr.cmd_line_ptr = LINUX_GPA_CMDLINE;
	bp->hdr.ramdisk_image = (uint32_t)params->initrd;
	bp->hdr.ramdisk_size = (uint32_t)params->initrd_len;
	bp->hdr.setup_data = RAMET_GPA_FDT - sizeof(*sd);
	bp->acpi_rsdp_addr = LINUX_GPA_ACPI;
	set_e820(bp, mem->ram);
}
