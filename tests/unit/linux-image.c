/* SPDX-License-Identifier: Apache-2.0 */
/* Where kernels are put: bzImages at their preferred address or not at all, ELF
 * kernels where they are linked, entered where their note says. */
#include <asm/bootparam.h>
#include <elf.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <cmocka.h>

#include "vmm/boot/linux.h"

#define MIB	 (1ull << 20)
#define RAM_MAX	 (128 * MIB)
#define SECTOR	 512u
#define BODY	 0x400u
#define FILE_LEN (2 * SECTOR + BODY)

static uint8_t *ram_bytes;
static uint8_t file[FILE_LEN];

static struct setup_header *hdr(void)
{
	return (struct setup_header *)(file + 0x1f1);
}

/* The header fields of Debian's kernel 6.12. */
static void good(void)
{
	memset(file, 0x5a, sizeof(file));
	memset(file, 0, 2 * SECTOR);
	*hdr() = (struct setup_header){
		.setup_sects = 1,
		.syssize = BODY / 16,
		.boot_flag = 0xaa55,
		.jump = 0x6aeb,
		.header = 0x53726448,
		.version = 0x20f,
		.loadflags = LOADED_HIGH,
		.initrd_addr_max = 0x7fffffff,
		.kernel_alignment = 2 * MIB,
		.relocatable_kernel = 1,
		.xloadflags = XLF_KERNEL_64,
		.cmdline_size = 2047,
		.pref_address = 16 * MIB,
		.init_size = 56 * MIB,
	};
}

static int load_file(const void *data, size_t len, uint64_t memory, struct linux_image *image,
	struct ramet_err *err)
{
	struct ram_layout ram;
	struct boot_memory mem = { .ram = &ram, .host = { ram_bytes } };

	assert_true(memory <= RAM_MAX);
	ram_layout_init(&ram, memory);
	return linux_load_image(data, len, &mem, image, err);
}

static int load(uint64_t memory, struct linux_image *image, struct ramet_err *err)
{
	return load_file(file, sizeof(file), memory, image, err);
}

static void loaded_at(uint64_t memory, uint64_t at)
{
	struct ramet_err err = { "" };
	struct linux_image image;

	if (load(memory, &image, &err))
		fail_msg("%s", err.msg);
	assert_int_equal(image.start, at);
	assert_int_equal(image.end, at + hdr()->init_size);
	assert_int_equal(image.entry, at + 0x200);
	assert_memory_equal(ram_bytes + at, file + 2 * SECTOR, BODY);
}

static void refused(uint64_t memory, int error, const char *words)
{
	struct ramet_err err = { "" };
	struct linux_image image;

	assert_int_equal(load(memory, &image, &err), error);
	if (!strstr(err.msg, words))
		fail_msg("'%s', not '%s'", err.msg, words);
}

static void test_sizes(void **state)
{
	good();
	for (uint64_t mib = 16; mib < 72; mib += 2)
		refused(mib * MIB, -ENOSPC, "it needs --memory 72M or more");
	for (uint64_t mib = 72; mib <= 128; mib += 2)
		loaded_at(mib * MIB, 16 * MIB);
	hdr()->init_size++;
	refused(72 * MIB, -ENOSPC, "it needs --memory 74M or more");
	/* No machine has RAM at this address. */
	hdr()->init_size = 0xffffffff;
	refused(128 * MIB, -ENOSPC, "never has RAM");
	good();
	hdr()->pref_address = 3ull << 30;
	refused(128 * MIB, -ENOSPC, "never has RAM");
	hdr()->pref_address = UINT64_MAX;
	refused(128 * MIB, -ENOSPC, "never has RAM");
}

static void test_alignment(void **state)
{
	/* A relocatable kernel moves itself up to its alignment. */
	good();
	hdr()->pref_address = 17 * MIB;
	hdr()->kernel_alignment = 16 * MIB;
	loaded_at(128 * MIB, 32 * MIB);
	refused(86 * MIB, -ENOSPC, "--memory 88M");
	/* A kernel that is not relocatable stays where it was linked. */
	hdr()->relocatable_kernel = 0;
	hdr()->kernel_alignment = 0;
	loaded_at(128 * MIB, 17 * MIB);
	/* Without a preferred address it is loaded at the lowest allowed address. */
	good();
	hdr()->pref_address = 0;
	loaded_at(128 * MIB, 2 * MIB);
	hdr()->kernel_alignment = 4096;
	loaded_at(128 * MIB, MIB);
	hdr()->relocatable_kernel = 0;
	refused(128 * MIB, -ENOEXEC, "below 1 MiB");
	good();
	hdr()->kernel_alignment = 3 * MIB;
	refused(128 * MIB, -ENOEXEC, "no power of two");
	hdr()->kernel_alignment = 0;
	refused(128 * MIB, -ENOEXEC, "no power of two");
}

/* An ELF kernel of one segment, with 0x100 bytes in the file, and a note of its PVH entry. */
struct elf_kernel {
	Elf64_Ehdr eh;
	Elf64_Phdr ph[2];
	struct {
		Elf64_Nhdr nh;
		char name[4];
		uint32_t entry;
	} note;
	uint8_t body[0x100];
};

static struct elf_kernel elf_kernel(uint64_t e_entry, uint32_t pvh_entry)
{
	return (struct elf_kernel){
		.eh = {
			.e_ident = { 0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT },
			.e_type = ET_EXEC,
			.e_machine = EM_X86_64,
			.e_version = EV_CURRENT,
			.e_entry = e_entry,
			.e_phoff = offsetof(struct elf_kernel, ph),
			.e_phentsize = sizeof(Elf64_Phdr),
			.e_phnum = 2,
		},
		.ph = {
			{ PT_LOAD, PF_R | PF_X, offsetof(struct elf_kernel, body),
				0xffffffff80200000, 2 * MIB, 0x100, 20 * MIB, 4096 },
			{ PT_NOTE, PF_R, offsetof(struct elf_kernel, note), 0, 0,
				sizeof(((struct elf_kernel *)0)->note), 0, 4 },
		},
		.note = { { 4, 4, 18 }, "Xen", pvh_entry },
	};
}

static void refused_elf(struct elf_kernel k, uint64_t memory, const char *words)
{
	struct ramet_err err = { "" };
	struct linux_image image;

	assert_int_equal(load_file(&k, sizeof(k), memory, &image, &err), -ENOEXEC);
	if (!strstr(err.msg, words))
		fail_msg("'%s', not '%s'", err.msg, words);
}

static void test_pvh(void **state)
{
	/* Linux's e_entry is a physical address, FreeBSD's a virtual one. */
	static const uint64_t e_entry[] = { 2 * MIB, 0xffffffff8038e000, 0 };
	struct elf_kernel k;
	struct linux_image image;

	for (size_t i = 0; i < sizeof(e_entry) / sizeof(e_entry[0]); i++) {
		struct ramet_err err = { "" };

		k = elf_kernel(e_entry[i], 2 * MIB + 0xff);
		if (load_file(&k, sizeof(k), 32 * MIB, &image, &err))
			fail_msg("%s", err.msg);
		assert_true(image.pvh);
		assert_int_equal(image.entry, 2 * MIB + 0xff);
	}
	k = elf_kernel(2 * MIB, 2 * MIB);
	refused_elf(k, 16 * MIB, "it needs --memory 22M or more");
	k.ph[0].p_memsz = 3ull << 30;
	refused_elf(k, 32 * MIB, "never has RAM");
	refused_elf(elf_kernel(2 * MIB, 0), 32 * MIB, "without a PVH entry");
	refused_elf(elf_kernel(2 * MIB, 2 * MIB + 0x100), 32 * MIB, "lies in no segment");
	refused_elf(elf_kernel(2 * MIB, 2 * MIB - 1), 32 * MIB, "lies in no segment");
}

static int map_ram(void **state)
{
	ram_bytes = mmap(NULL, RAM_MAX, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	return ram_bytes == MAP_FAILED;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_alignment),
		cmocka_unit_test(test_pvh),
	};

	return cmocka_run_group_tests(tests, map_ram, NULL);
}
