/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loads an ELF vmlinux with the PVH protocol: its note has the address of a 32-bit entry, which
 * gets a start_info.
 * Sources: Xen docs/misc/pvh.pandoc and xen/include/public/arch-x86/hvm/start_info.h, version 1 of
 * the structure; elfnote.h for the note.
 */
#include <elf.h>
#include <errno.h>
#include <string.h>

#include "vmm/boot/elf.h"
#include "vmm/boot/linux.h"

#define START_MAGIC 0x336ec578u
#define NOTE_PHYS32 18u	  /* XEN_ELFNOTE_PHYS32_ENTRY */
#define CMDLINE_MAX 2047u /* COMMAND_LINE_SIZE of x86, without the NUL */

struct start_info {
	uint32_t magic, version, flags, nr_modules;
	uint64_t modlist, cmdline, rsdp, memmap;
	uint32_t memmap_entries, reserved;
};

struct module {
	uint64_t addr, len, cmdline, reserved;
};

struct memmap_entry {
	uint64_t addr, len;
	uint32_t type, reserved;
};

/* All structures fit in one page. */
struct start_page {
	struct start_info info;
	struct module initrd;
	struct memmap_entry memmap[LINUX_REGIONS_MAX];
};
_Static_assert(sizeof(struct start_page) <= LINUX_GPA_CMDLINE - LINUX_GPA_PARAMS, "fits");
_Static_assert(sizeof(struct start_info) == 56 && sizeof(struct memmap_entry) == 24, "as in Xen");

static uint64_t align4(uint64_t v)
{
	return (v + 3) & ~3ull;
}

/* Returns the entry from one segment of notes, or 0. */
static uint32_t find_entry(const uint8_t *note, uint64_t len)
{
	Elf64_Nhdr nh;
	uint32_t entry;

	while (len >= sizeof(nh)) {
		uint64_t name, size;

		memcpy(&nh, note, sizeof(nh));
		name = align4(nh.n_namesz);
		size = sizeof(nh) + name + align4(nh.n_descsz);
		if (nh.n_type == NOTE_PHYS32 && nh.n_namesz == 4 && nh.n_descsz >= sizeof(entry) &&
			size <= len && !memcmp(note + sizeof(nh), "Xen", 4)) {
			memcpy(&entry, note + sizeof(nh) + name, sizeof(entry));
			return entry;
		}
		if (size >= len)
			break;
		note += size;
		len -= size;
	}
	return 0;
}

/* Searches all note segments. elf_load() has checked that the program headers are in the file. */
static uint32_t pvh_entry(const uint8_t *file, size_t len)
{
	Elf64_Ehdr eh;
	uint32_t entry = 0;

	memcpy(&eh, file, sizeof(eh));
	for (unsigned i = 0; !entry && i < eh.e_phnum; i++) {
		Elf64_Phdr ph;

		memcpy(&ph, file + eh.e_phoff + i * sizeof(ph), sizeof(ph));
		if (ph.p_type == PT_NOTE && ph.p_offset <= len && ph.p_filesz <= len - ph.p_offset)
			entry = find_entry(file + ph.p_offset, ph.p_filesz);
	}
	return entry;
}

int pvh_load(const void *file, size_t len, const struct boot_memory *mem, struct linux_image *image,
	struct ramet_err *err)
{
	struct elf_image elf;
	uint32_t entry;
	int ret = elf_load(file, len, mem, LINUX_HIGH_START, &elf, err);

	if (ret)
		return ret;
	entry = pvh_entry(file, len);
	if (!entry)
		return err_set(err, -ENOEXEC,
			"an ELF file without a PVH entry (a Linux kernel needs CONFIG_PVH)");
	/* e_entry is not used: in FreeBSD it is a virtual address. */
	if (!elf_has(file, entry))
		return err_set(err, -ENOEXEC, "its PVH entry, 0x%x, lies in no segment", entry);
	*image = (struct linux_image){
		.pvh = true,
		.entry = entry,
		.start = elf.start,
		.end = elf.end,
		.initrd_end = UINT32_MAX,
		.cmdline_max = CMDLINE_MAX,
	};
	return 0;
}

void pvh_params(const struct boot_memory *mem, const struct linux_params *params)
{
	struct start_page *page = boot_mem(mem, gpa(LINUX_GPA_PARAMS), sizeof(*page));
	struct linux_region region[LINUX_REGIONS_MAX];
	unsigned n = linux_regions(mem->ram, region);

	*page = (struct start_page){
		.info = {
			.magic = START_MAGIC,
			.version = 1,
			.nr_modules = params->initrd_len ? 1 : 0,
			.modlist = LINUX_GPA_PARAMS + offsetof(struct start_page, initrd),
			.cmdline = LINUX_GPA_CMDLINE,
			.rsdp = LINUX_GPA_ACPI,
			.memmap = LINUX_GPA_PARAMS + offsetof(struct start_page, memmap),
			.memmap_entries = n,
		},
		.initrd = { .addr = params->initrd, .len = params->initrd_len },
	};
	for (unsigned i = 0; i < n; i++)
		page->memmap[i] = (struct memmap_entry){
			.addr = region[i].addr,
			.len = region[i].len,
			.type = region[i].type,
		};
}
