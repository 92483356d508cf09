/* SPDX-License-Identifier: Apache-2.0 */
/* Disks of a family against a model: an array of bytes for each. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "tests/unit/disk-common.h"

#define STEPS 4000u

static void test_model(void **state)
{
	struct model m;

	srand(7);
	model_open(&m);
	for (unsigned step = 0; step < STEPS; step++) {
		unsigned i = (unsigned)rand() % m.n, what = (unsigned)rand() % 20;

		if (what == 0 && m.n < DISKS)
			model_clone(&m, i);
		else if (what == 1 && m.n > 1)
			model_free(&m, i);
		else if (what < 10)
			model_write(&m, i);
		else
			model_read(&m, i);
		if (step % 16 == 0)
			assert_int_equal(disk_check(m.disk, m.n), 0);
	}
	model_end(&m);
}

/* The overlay's file cannot grow: a block that cannot be written stays as it was, for all disks. */
static void test_full(void **state)
{
	struct rlimit was, few;
	struct model m;
	uint8_t byte = 0xee;
	unsigned refused = 0;

	assert_int_equal(getrlimit(RLIMIT_FSIZE, &was), 0);
	few = was;
	few.rlim_cur = 8 * DISK_CLUSTER;
	signal(SIGXFSZ, SIG_IGN);
	model_open(&m);
	model_clone(&m, 0);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &few), 0);
	for (uint64_t pos = 0; pos < 20 * DISK_CLUSTER; pos += DISK_CLUSTER) {
		int ret = disk_write(m.disk[1], pos, &byte, 1);

		if (!ret)
			m.bytes[1][pos] = byte;
		else
			assert_int_equal(ret, -EFBIG);
		refused += ret != 0;
		assert_int_equal(disk_check(m.disk, m.n), 0);
	}
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &was), 0);
	assert_in_range(refused, 10, 19);
	model_end(&m);
}

static void test_readonly(void **state)
{
	struct disk *disk, *copy;
	uint8_t byte;

	assert_int_equal(disk_open(path, true, &disk, NULL), 0);
	assert_true(disk_readonly(disk));
	assert_int_equal(disk_write(disk, 0, "x", 1), -EROFS);
	assert_int_equal(disk_clone(disk, &copy), 0);
	assert_int_equal(disk_write(copy, 0, "x", 1), -EROFS);
	disk_free(disk);
	assert_int_equal(disk_read(copy, 5, &byte, 1), 0);
	assert_int_equal(byte, base_byte(5));
	disk_free(copy);
	disk_free(NULL);
	assert_base_unchanged();
}

/* If the base file gets shorter during the test, a read fails and does not invent contents. */
static void test_cut_base(void **state)
{
	struct disk *disk;
	uint8_t byte, *bytes;

	assert_int_equal(disk_open(path, false, &disk, NULL), 0);
	assert_int_equal(truncate(path, 100 * DISK_CLUSTER), 0);
	assert_int_equal(disk_read(disk, 0, &byte, 1), 0);
	assert_int_equal(disk_read(disk, 200 * DISK_CLUSTER, &byte, 1), -EIO);
	assert_int_equal(disk_write(disk, 200 * DISK_CLUSTER, &byte, 1), -EIO);
	/* One call reads clusters before the cut together with clusters after it. */
	bytes = malloc(20 * DISK_CLUSTER);
	assert_int_equal(disk_read(disk, 90 * DISK_CLUSTER, bytes, 20 * DISK_CLUSTER), -EIO);
	assert_int_equal(disk_read(disk, 90 * DISK_CLUSTER, bytes, 10 * DISK_CLUSTER), 0);
	free(bytes);
	assert_int_equal(disk_check(&disk, 1), 0);
	disk_free(disk);
}

static void refused(const char *file, const char *why)
{
	struct disk *disk = (void *)1;
	struct ramet_err err = { "" };

	assert_true(disk_open(file, false, &disk, &err) < 0);
	assert_ptr_equal(disk, (void *)1);
	if (!strstr(err.msg, why) || !strstr(err.msg, file))
		fail_msg("'%s'", err.msg);
}

static void test_refused(void **state)
{
	int fd = open(path, O_WRONLY | O_TRUNC);

	refused("/nonexistent/disk", "No such file");
	refused("/tmp", "not a regular file");
	refused("/dev/null", "not a regular file");
	refused(path, "0 bytes");
	assert_int_equal(write(fd, path, 60), 60);
	refused(path, "60 bytes");
	assert_int_equal(ftruncate(fd, (off_t)DISK_MAX + 512), 0);
	refused(path, "a disk has 512 to");
	assert_int_equal(ftruncate(fd, 8 * 512 + 100), 0);
	refused(path, "4196 bytes are 8 sectors of 512 and 100 bytes");
	close(fd);
}

/* Images of other formats are refused: as raw disks they would have wrong contents. */
static void test_formats(void **state)
{
	static const struct {
		off_t at;
		const char *magic, *why;
	} tries[] = {
		{ 0, "QFI\xfb", "a qcow2 image" },
		{ 0, "KDMV", "a VMDK image" },
		{ 0, "# Disk DescriptorFile\n", "a VMDK image" },
		{ 0, "vhdxfile", "a VHDX image" },
		{ 0, "conectix", "a VHD image" },
		{ SIZE - 512, "conectix", "a VHD image" },
		{ 0x40, "\x7f\x10\xda\xbe", "a VDI image" },
	};
	struct disk *disk;

	for (size_t i = 0; i < sizeof(tries) / sizeof(tries[0]); i++) {
		int fd = open(path, O_WRONLY);
		size_t len = strlen(tries[i].magic);

		assert_int_equal(pwrite(fd, tries[i].magic, len, tries[i].at), len);
		refused(path, tries[i].why);
		refused(path, "qemu-img convert -O raw");
		/* At another place in the file the mark means nothing. */
		assert_int_equal(pwrite(fd, "?", 1, tries[i].at), 1);
		assert_int_equal(pwrite(fd, tries[i].magic, len, 4096), len);
		assert_int_equal(disk_open(path, true, &disk, NULL), 0);
		disk_free(disk);
		close(fd);
	}
}

static bool no_tmpfile;
int __real_open64(const char *name, int flags, ...);
int __wrap_open64(const char *name, int flags, ...);

/* A file system that cannot make files without a name. */
int __wrap_open64(const char *name, int flags, ...)
{
	va_list ap;
	int mode;

	va_start(ap, flags);
	mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(ap, int) : 0;
	va_end(ap);
	if (no_tmpfile && (flags & O_TMPFILE) == O_TMPFILE) {
		errno = EOPNOTSUPP;
		return -1;
	}
	return __real_open64(name, flags, mode);
}

static void test_overlay_place(void **state)
{
	char dir[] = "/tmp/ramet-unit-disk.XXXXXX";
	struct disk *disk;
	uint8_t byte = 1;

	assert_non_null(mkdtemp(dir));
	assert_int_equal(setenv("TMPDIR", dir, 1), 0);
	for (int i = 0; i < 2; i++) {
		no_tmpfile = i == 1;
		assert_int_equal(disk_open(path, false, &disk, NULL), 0);
		assert_int_equal(disk_write(disk, 5, "x", 1), 0);
		assert_int_equal(disk_read(disk, 5, &byte, 1), 0);
		assert_int_equal(byte, 'x');
		assert_int_equal(rmdir(dir), 0); /* works because the directory is empty */
		disk_free(disk);
		assert_int_equal(mkdir(dir, 0700), 0);
	}
	no_tmpfile = false;
	assert_int_equal(rmdir(dir), 0);
	refused(path, "set TMPDIR");
	refused(path, dir);
	assert_int_equal(setenv("TMPDIR", "/proc", 1), 0);
	refused(path, "set TMPDIR");
	/* Nothing is written to a disk that refuses writes. */
	assert_int_equal(disk_open(path, true, &disk, NULL), 0);
	disk_free(disk);
	assert_int_equal(setenv("TMPDIR", "", 1), 0);
	assert_int_equal(disk_open(path, false, &disk, NULL), 0);
	disk_free(disk);
	unsetenv("TMPDIR");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_model, make_base, remove_base),
		cmocka_unit_test_setup_teardown(test_full, make_base, remove_base),
		cmocka_unit_test_setup_teardown(test_readonly, make_base, remove_base),
		cmocka_unit_test_setup_teardown(test_cut_base, make_base, remove_base),
		cmocka_unit_test_setup_teardown(test_refused, make_base, remove_base),
		cmocka_unit_test_setup_teardown(test_formats, make_base, remove_base),
		cmocka_unit_test_setup_teardown(test_overlay_place, make_base, remove_base),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
