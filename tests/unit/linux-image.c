/* SPDX-License-Identifier: Apache-2.0 */
/* Where kernels are put: bzImages at their preferred address or not at all. */
#include <asm/bootparam.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <cmocka.h>

#include "vmm/linux.h"

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

/* What Debian's 6.12 says of itself. */
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

static int load(uint64_t memory, struct linux_image *image, struct ramet_err *err)
{
	struct ram_layout ram;
	struct boot_memory mem = { .ram = &ram, .host = { ram_bytes } };

	assert_true(memory <= RAM_MAX);
	ram_layout_init(&ram, memory);
	return linux_load_image(file, sizeof(file), &mem, image, err);
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
	/* No machine has that. */
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
	/* One that is not stays where it was linked. */
	hdr()->relocatable_kernel = 0;
	hdr()->kernel_alignment = 0;
	loaded_at(128 * MIB, 17 * MIB);
	/* It has no preference: as low as may be. */
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
	};

	return cmocka_run_group_tests(tests, map_ram, NULL);
}
