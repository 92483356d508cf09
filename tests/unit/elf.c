/* SPDX-License-Identifier: Apache-2.0 */
/* The ELF loader against wrong files: each field in turn, each length, and every byte damaged. */
#include <elf.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "guest/guests.h"
#include "include/ramet/abi.h"
#include "vmm/boot/elf.h"

#define RAM_SIZE (4u << 20)

static uint8_t ram_bytes[RAM_SIZE];
static struct ram_layout ram;
static struct boot_memory mem = { .ram = &ram, .host = { ram_bytes } };

/* A good file: two segments and a note; 0x100 bytes each, at 1 MiB and 2 MiB. */
struct file {
	Elf64_Ehdr eh;
	Elf64_Phdr ph[3];
	uint8_t body[0x200];
};

static struct file good(void)
{
	struct file f = {
		.eh = {
			.e_ident = { 0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT },
			.e_type = ET_EXEC,
			.e_machine = EM_X86_64,
			.e_version = EV_CURRENT,
			.e_entry = 0x100000,
			.e_phoff = offsetof(struct file, ph),
			.e_phentsize = sizeof(Elf64_Phdr),
			.e_phnum = 3,
		},
		.ph = {
			{ PT_LOAD, PF_R | PF_X, offsetof(struct file, body), 0x100000, 0x100000,
				0x100, 0x100, 0x1000 },
			{ PT_NOTE, PF_R, 0, 0, 0, 8, 8, 4 },
			{ PT_LOAD, PF_R | PF_W, offsetof(struct file, body) + 0x100, 0x200000,
				0x200000, 0x100, 0x200, 0x1000 },
		},
	};

	memset(f.body, 0x5a, 0x100);
	memset(f.body + 0x100, 0xa5, 0x100);
	return f;
}

static int load(const void *file, size_t len, struct elf_image *image, struct ramet_err *err)
{
	return elf_load(file, len, &mem, RAMET_GPA_IMAGE, image, err);
}

static void assert_untouched(void)
{
	for (size_t i = 0; i < RAM_SIZE; i++)
		if (ram_bytes[i])
			fail_msg("a refused file wrote to %zx", i);
}

static void test_good(void **state)
{
	struct file f = good();
	struct elf_image image;

	assert_int_equal(load(&f, sizeof(f), &image, NULL), 0);
	assert_int_equal(image.entry, 0x100000);
	assert_int_equal(image.start, 0x100000);
	assert_int_equal(image.end, 0x200200);
	assert_memory_equal(ram_bytes + 0x100000, f.body, 0x100);
	assert_memory_equal(ram_bytes + 0x200000, f.body + 0x100, 0x100);
	assert_int_equal(ram_bytes[0x100100], 0);
	assert_int_equal(ram_bytes[0x200100], 0);
	memset(ram_bytes, 0, RAM_SIZE);
}

/* elf_has() tells whether the entry point is in a part that the file fills. */
static void test_entry(void **state)
{
	static const struct {
		uint64_t entry;
		bool inside;
	} tries[] = {
		{ 0x100000, true },
		{ 0x1000ff, true },
		{ 0x200000, true },
		{ 0, false },
		{ 0xfffff, false },
		{ 0x100100, false },
		{ 0x200100, false }, /* in memory only: zeros */
		{ 0xffffffff80200000, false },
		{ UINT64_MAX, false },
	};

	for (size_t i = 0; i < sizeof(tries) / sizeof(tries[0]); i++) {
		struct file f = good();
		struct elf_image image;

		f.eh.e_entry = tries[i].entry;
		assert_int_equal(load(&f, sizeof(f), &image, NULL), 0);
		assert_int_equal(image.entry, tries[i].entry);
		assert_int_equal(elf_has(&f, image.entry), tries[i].inside);
	}
	memset(ram_bytes, 0, RAM_SIZE);
}

#define EH(field, v)                                              \
	{                                                         \
		"e_" #field, offsetof(struct file, eh.e_##field), \
			sizeof(((Elf64_Ehdr *)0)->e_##field), v   \
	}
#define PH(i, field, v)                                              \
	{                                                            \
		"p_" #field, offsetof(struct file, ph[i].p_##field), \
			sizeof(((Elf64_Phdr *)0)->p_##field), v      \
	}

static void test_bad_fields(void **state)
{
	static const struct {
		const char *field;
		size_t offset, size;
		uint64_t value;
	} bad[] = {
		EH(ident[0], 'E'),
		EH(ident[EI_CLASS], ELFCLASS32),
		EH(ident[EI_DATA], ELFDATA2MSB),
		EH(ident[EI_VERSION], 0),
		EH(type, ET_REL),
		EH(type, ET_DYN),
		EH(machine, EM_386),
		EH(version, 2),
		EH(phoff, sizeof(struct file)),
		EH(phoff, sizeof(struct file) - 3 * sizeof(Elf64_Phdr) + 1),
		EH(phoff, UINT64_MAX),
		EH(phoff, UINT64_MAX - sizeof(Elf64_Phdr) + 1),
		EH(phentsize, 0),
		EH(phentsize, sizeof(Elf64_Phdr) - 1),
		EH(phnum, 0),
		EH(phnum, 0xffff),
		EH(phnum, 1000),
		PH(0, paddr, RAMET_GPA_IMAGE - 1),
		PH(0, paddr, 0),
		PH(0, paddr, RAM_SIZE),
		PH(0, paddr, RAM_SIZE - 0xff),
		PH(0, paddr, UINT64_MAX),
		PH(0, paddr, 0x200000), /* overlaps the other one */
		PH(0, paddr, 0x1fff01),
		PH(0, paddr, 0x300000), /* out of order */
		PH(0, offset, sizeof(struct file)),
		PH(0, offset, sizeof(struct file) - 0xff),
		PH(0, offset, UINT64_MAX),
		PH(0, offset, UINT64_MAX - 0xff),
		PH(0, filesz, 0x101),
		PH(0, filesz, UINT64_MAX),
		PH(0, memsz, 0xff),
		PH(0, memsz, 0),
		PH(0, memsz, 0x100001),
		PH(2, memsz, 0),
		PH(2, memsz, RAM_SIZE),
		PH(2, memsz, UINT64_MAX),
		PH(2, memsz, UINT64_MAX - 0x200000 + 1),
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct elf_image image, before = { 1, 2, 3 };
		struct ramet_err err = { "" };
		struct file f = good();

		image = before;
		memcpy((uint8_t *)&f + bad[i].offset, &bad[i].value, bad[i].size);
		if (load(&f, sizeof(f), &image, &err) != -ENOEXEC)
			fail_msg("%s = %#lx was accepted", bad[i].field, bad[i].value);
		assert_memory_equal(&image, &before, sizeof(image));
		assert_true(strlen(err.msg) > 10);
		assert_untouched();
	}
}

/* Exact-size heap copies, so that a sanitizer sees any access beyond the end. */
static int load_copy(const void *file, size_t len)
{
	struct elf_image image;
	void *copy = malloc(len ? len : 1);
	int ret;

	assert_non_null(copy);
	memcpy(copy, file, len);
	ret = load(copy, len, &image, NULL);
	free(copy);
	return ret;
}

static void test_truncated(void **state)
{
	struct file f = good();

	for (size_t len = 0; len < sizeof(f); len++)
		assert_int_equal(load_copy(&f, len), -ENOEXEC);
	assert_untouched();
}

static void test_damaged(void **state)
{
	unsigned accepted = 0, refused = 0;

	for (size_t i = 0; i < offsetof(struct file, body); i++)
		for (unsigned bit = 0; bit < 8; bit++) {
			struct file f = good();

			((uint8_t *)&f)[i] ^= (uint8_t)(1u << bit);
			if (load_copy(&f, sizeof(f)))
				refused++;
			else
				accepted++;
		}
	/* Flags, alignment, section headers: not everything matters. */
	assert_true(accepted && refused > accepted / 4);
	memset(ram_bytes, 0, RAM_SIZE);
}

static void test_guests(void **state)
{
	for (unsigned i = 0; ramet_guest_name(i); i++) {
		struct elf_image image;
		const void *elf;
		size_t len;

		assert_int_equal(guest_image(ramet_guest_name(i), &elf, &len), 0);
		assert_int_equal(load(elf, len, &image, NULL), 0);
		assert_int_equal(image.entry, RAMET_GPA_IMAGE);
		memset(ram_bytes, 0, RAM_SIZE);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),
		cmocka_unit_test(test_entry),
		cmocka_unit_test(test_bad_fields),
		cmocka_unit_test(test_truncated),
		cmocka_unit_test(test_damaged),
		cmocka_unit_test(test_guests),
	};

	ram_layout_init(&ram, RAM_SIZE);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
