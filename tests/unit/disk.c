/* SPDX-License-Identifier: Apache-2.0 */
/* Disks of a family against a model: an array of bytes for each. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "vmm/devices/disk.h"

#define SIZE  (300u * DISK_CLUSTER + 3 * DISK_SECTOR) /* the last cluster is not whole */
#define DISKS 6u
#define STEPS 4000u

static char path[64];

static uint8_t base_byte(size_t i)
{
	return (uint8_t)(i * 13 + i / 4096);
}

static int make_base(void **state)
{
	uint8_t *bytes = malloc(SIZE);
	int fd;

	strcpy(path, "/tmp/ramet-unit-disk.XXXXXX");
	fd = mkstemp(path);
	for (size_t i = 0; i < SIZE; i++)
		bytes[i] = base_byte(i);
	if (fd < 0 || write(fd, bytes, SIZE) != SIZE)
		return -1;
	free(bytes);
	return close(fd);
}

static int remove_base(void **state)
{
	return unlink(path);
}

static void assert_base_unchanged(void)
{
	uint8_t *bytes = malloc(SIZE + 1);
	int fd = open(path, O_RDONLY);

	assert_int_equal(read(fd, bytes, SIZE + 1), SIZE);
	for (size_t i = 0; i < SIZE; i++)
		assert_int_equal(bytes[i], base_byte(i));
	close(fd);
	free(bytes);
}

struct model {
	struct disk *disk[DISKS];
	uint8_t *bytes[DISKS];
	unsigned n;
};

static void model_open(struct model *m)
{
	struct ramet_err err = { "" };

	*m = (struct model){ .n = 1 };
	assert_int_equal(disk_open(path, false, &m->disk[0], &err), 0);
	assert_int_equal(disk_size(m->disk[0]), SIZE);
	assert_false(disk_readonly(m->disk[0]));
	m->bytes[0] = malloc(SIZE);
	for (size_t i = 0; i < SIZE; i++)
		m->bytes[0][i] = base_byte(i);
}

static void model_free(struct model *m, unsigned i)
{
	disk_free(m->disk[i]);
	free(m->bytes[i]);
	m->n--;
	m->disk[i] = m->disk[m->n];
	m->bytes[i] = m->bytes[m->n];
}

static void model_clone(struct model *m, unsigned i)
{
	assert_int_equal(disk_clone(m->disk[i], &m->disk[m->n]), 0);
	m->bytes[m->n] = malloc(SIZE);
	memcpy(m->bytes[m->n], m->bytes[i], SIZE);
	m->n++;
}

/* A range of any size and place; mostly small. */
static void range(uint64_t *pos, uint64_t *len)
{
	*pos = (uint64_t)rand() % SIZE;
	*len = 1 + (uint64_t)rand() % (rand() % 8 ? 6000 : SIZE);
	if (*len > SIZE - *pos)
		*len = SIZE - *pos;
}

/* Memory in pieces of any size; some are empty. */
static unsigned pieces(uint8_t *buf, uint64_t len, struct iovec *iov, unsigned max)
{
	unsigned n = 0;

	while (len) {
		uint64_t some = (uint64_t)rand() % (rand() % 4 ? 5000 : 40);

		some = some < len && n < max - 1 ? some : len;
		iov[n++] = (struct iovec){ buf, some };
		buf += some;
		len -= some;
	}
	return n;
}

static void model_write(struct model *m, unsigned i)
{
	struct iovec iov[200];
	uint64_t pos, len;

	range(&pos, &len);
	for (uint64_t at = 0; at < len; at++)
		m->bytes[i][pos + at] = (uint8_t)rand();
	assert_int_equal(disk_writev(m->disk[i], pos, iov,
				 pieces(m->bytes[i] + pos, len, iov, 1 + (unsigned)rand() % 200)),
		0);
}

static void model_read(struct model *m, unsigned i)
{
	static uint8_t bytes[SIZE];
	struct iovec iov[200];
	uint64_t pos, len;

	range(&pos, &len);
	assert_int_equal(disk_readv(m->disk[i], pos, iov,
				 pieces(bytes, len, iov, 1 + (unsigned)rand() % 200)),
		0);
	assert_memory_equal(bytes, m->bytes[i] + pos, len);
}

static void model_end(struct model *m)
{
	static uint8_t bytes[SIZE];

	for (unsigned i = 0; i < m->n; i++) {
		assert_int_equal(disk_read(m->disk[i], 0, bytes, SIZE), 0);
		assert_memory_equal(bytes, m->bytes[i], SIZE);
	}
	while (m->n) {
		assert_int_equal(disk_check(m->disk, m->n), 0);
		model_free(m, (unsigned)rand() % m->n);
	}
	assert_base_unchanged();
}

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

/* The overlay's file cannot grow: what cannot be written stays as it was, for everybody. */
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

/* What a disk asks of the system, counted; and a system that does a bit of it at a time. */
static struct {
	unsigned preadv, pwritev, pread, pwrite, locks;
} calls;
static size_t bit; /* not 0: the most that preadv and pwritev do, if no signal comes */

ssize_t __real_preadv64(int fd, const struct iovec *iov, int n, off_t pos);
ssize_t __wrap_preadv64(int fd, const struct iovec *iov, int n, off_t pos);
ssize_t __wrap_preadv64(int fd, const struct iovec *iov, int n, off_t pos)
{
	calls.preadv++;
	if (!bit)
		return __real_preadv64(fd, iov, n, pos);
	errno = EINTR;
	return calls.preadv % 3
		       ? pread(fd, iov->iov_base, iov->iov_len < bit ? iov->iov_len : bit, pos)
		       : -1;
}

ssize_t __real_pwritev64(int fd, const struct iovec *iov, int n, off_t pos);
ssize_t __wrap_pwritev64(int fd, const struct iovec *iov, int n, off_t pos);
ssize_t __wrap_pwritev64(int fd, const struct iovec *iov, int n, off_t pos)
{
	calls.pwritev++;
	if (!bit)
		return __real_pwritev64(fd, iov, n, pos);
	errno = EINTR;
	return calls.pwritev % 3
		       ? pwrite(fd, iov->iov_base, iov->iov_len < bit ? iov->iov_len : bit, pos)
		       : -1;
}

ssize_t __real_pread64(int fd, void *buf, size_t len, off_t pos);
ssize_t __wrap_pread64(int fd, void *buf, size_t len, off_t pos);
ssize_t __wrap_pread64(int fd, void *buf, size_t len, off_t pos)
{
	calls.pread++;
	return __real_pread64(fd, buf, len, pos);
}

ssize_t __real_pwrite64(int fd, const void *buf, size_t len, off_t pos);
ssize_t __wrap_pwrite64(int fd, const void *buf, size_t len, off_t pos);
ssize_t __wrap_pwrite64(int fd, const void *buf, size_t len, off_t pos)
{
	calls.pwrite++;
	return __real_pwrite64(fd, buf, len, pos);
}

int __real_pthread_mutex_lock(pthread_mutex_t *lock);
int __wrap_pthread_mutex_lock(pthread_mutex_t *lock);
int __wrap_pthread_mutex_lock(pthread_mutex_t *lock)
{
	calls.locks++;
	return __real_pthread_mutex_lock(lock);
}

static void read_counted(
	struct model *m, unsigned i, uint64_t pos, uint64_t len, unsigned preadv, unsigned locks)
{
	static uint8_t bytes[SIZE];

	memset(&calls, 0, sizeof(calls));
	assert_int_equal(disk_read(m->disk[i], pos, bytes, len), 0);
	assert_int_equal(calls.preadv, preadv);
	assert_int_equal(calls.locks, locks);
	assert_int_equal(calls.pread + calls.pwrite + calls.pwritev, 0);
	assert_memory_equal(bytes, m->bytes[i] + pos, len);
}

static void write_counted(struct model *m, unsigned i, uint64_t pos, uint64_t len, unsigned pwritev,
	unsigned parts, unsigned locks)
{
	for (uint64_t at = 0; at < len; at++)
		m->bytes[i][pos + at] = (uint8_t)rand();
	memset(&calls, 0, sizeof(calls));
	assert_int_equal(disk_write(m->disk[i], pos, m->bytes[i] + pos, len), 0);
	assert_int_equal(calls.pwritev, pwritev);
	assert_int_equal(calls.pread, parts);
	assert_int_equal(calls.pwrite, parts);
	assert_int_equal(calls.locks, locks);
	assert_int_equal(calls.preadv, 0);
	assert_int_equal(disk_check(m->disk, m->n), 0);
}

#define CLUSTERS(n) ((uint64_t)(n)*DISK_CLUSTER)

/* Clusters in a row that lie in a row in one file cost one lock and one call. */
static void test_coalesced(void **state)
{
	struct model m;

	model_open(&m);
	read_counted(&m, 0, 0, SIZE, 1, 1);
	read_counted(&m, 0, 5, 1, 1, 1);
	read_counted(&m, 0, CLUSTERS(7) + 100, CLUSTERS(40), 1, 1);
	read_counted(&m, 0, SIZE - 1, 1, 1, 1);
	read_counted(&m, 0, SIZE, 0, 0, 0);
	/* New blocks: whole clusters, then a part on either side. */
	write_counted(&m, 0, CLUSTERS(16), CLUSTERS(32), 1, 0, 2);
	write_counted(&m, 0, CLUSTERS(60) + 512, CLUSTERS(4), 1, 2, 2);
	write_counted(&m, 0, CLUSTERS(70) + 512, 512, 0, 1, 2);
	/* In place. */
	write_counted(&m, 0, CLUSTERS(20) + 7, CLUSTERS(5), 1, 0, 1);
	/* Mixed: base, overlay, base, overlay, base. */
	read_counted(&m, 0, CLUSTERS(10) + 1, CLUSTERS(58), 5, 1);
	/* In place, new, and in place again, which is elsewhere. */
	write_counted(&m, 0, CLUSTERS(40), CLUSTERS(22), 3, 0, 2);
	/* The last cluster is not whole. */
	write_counted(&m, 0, SIZE - CLUSTERS(3), CLUSTERS(3), 1, 2, 2);
	read_counted(&m, 0, SIZE - CLUSTERS(8), CLUSTERS(8), 2, 1);
	/* A clone's first write takes new blocks, and leaves the others alone. */
	model_clone(&m, 0);
	read_counted(&m, 1, CLUSTERS(16), CLUSTERS(24), 1, 1);
	write_counted(&m, 1, CLUSTERS(16), CLUSTERS(8), 1, 0, 2);
	read_counted(&m, 1, CLUSTERS(16), CLUSTERS(24), 2, 1);
	read_counted(&m, 0, CLUSTERS(16), CLUSTERS(24), 1, 1);
	/* What the other one does not need any more is used again, in a row. */
	write_counted(&m, 0, CLUSTERS(16), CLUSTERS(8), 1, 0, 1);
	model_free(&m, 0);
	write_counted(&m, 0, CLUSTERS(200), CLUSTERS(8), 1, 0, 2);
	model_end(&m);
}

/* More sources, and more pieces of memory, than are dealt with at once. */
static void test_many(void **state)
{
	static uint8_t bytes[SIZE];
	struct iovec iov[300];
	struct model m;

	model_open(&m);
	for (unsigned c = 0; c < 200; c += 2)
		write_counted(&m, 0, CLUSTERS(c), CLUSTERS(1), 1, 0, 2);
	read_counted(&m, 0, 0, CLUSTERS(200), 200, 4);
	/* 100 times in place and new, and a new block for each of the clusters that follow. */
	write_counted(&m, 0, 0, CLUSTERS(300), 201, 0, 4);
	for (unsigned i = 0; i < 300; i++)
		iov[i] = (struct iovec){ bytes + (size_t)i * 16, 16 };
	memset(&calls, 0, sizeof(calls));
	assert_int_equal(disk_readv(m.disk[0], CLUSTERS(250) + 16, iov, 300), 0);
	assert_memory_equal(bytes, m.bytes[0] + CLUSTERS(250) + 16, 300 * 16);
	assert_int_equal(calls.preadv, 3);
	assert_int_equal(calls.locks, 1);
	model_end(&m);
}

/* A call may be interrupted, or do less than asked for. */
static void test_short(void **state)
{
	struct model m;

	srand(11);
	model_open(&m);
	bit = 700;
	for (unsigned step = 0; step < 40; step++) {
		model_write(&m, 0);
		model_read(&m, 0);
	}
	bit = 0;
	model_end(&m);
}

/* A request of which a part does not fit changes nothing but for what was written in place. */
static void test_full_at_once(void **state)
{
	struct rlimit was, few;
	uint8_t bytes[20 * DISK_CLUSTER] = { 1 };
	struct model m;

	assert_int_equal(getrlimit(RLIMIT_FSIZE, &was), 0);
	few = was;
	few.rlim_cur = 8 * DISK_CLUSTER;
	signal(SIGXFSZ, SIG_IGN);
	model_open(&m);
	model_clone(&m, 0);
	write_counted(&m, 1, CLUSTERS(3), CLUSTERS(2), 1, 0, 2);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &few), 0);
	assert_int_equal(disk_write(m.disk[1], CLUSTERS(5), bytes, sizeof(bytes)), -EFBIG);
	assert_int_equal(disk_check(m.disk, m.n), 0);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &was), 0);
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

/* The base gets shorter under us: an error, not a made-up content. */
static void test_cut_base(void **state)
{
	struct disk *disk;
	uint8_t byte, *bytes;

	assert_int_equal(disk_open(path, false, &disk, NULL), 0);
	assert_int_equal(truncate(path, 100 * DISK_CLUSTER), 0);
	assert_int_equal(disk_read(disk, 0, &byte, 1), 0);
	assert_int_equal(disk_read(disk, 200 * DISK_CLUSTER, &byte, 1), -EIO);
	assert_int_equal(disk_write(disk, 200 * DISK_CLUSTER, &byte, 1), -EIO);
	/* Clusters before the cut come in the same call as those behind it. */
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
	refused(path, "4196 bytes: 8 sectors of 512 and 100 bytes");
	close(fd);
}

/* Images of other formats would be wrong disks. */
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
		/* Anywhere else it is nothing. */
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
		assert_int_equal(rmdir(dir), 0); /* nothing is in it */
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
		cmocka_unit_test_setup_teardown(test_coalesced, make_base, remove_base),
		cmocka_unit_test_setup_teardown(test_many, make_base, remove_base),
		cmocka_unit_test_setup_teardown(test_short, make_base, remove_base),
		cmocka_unit_test_setup_teardown(test_full_at_once, make_base, remove_base),
		cmocka_unit_test_setup_teardown(test_readonly, make_base, remove_base),
		cmocka_unit_test_setup_teardown(test_cut_base, make_base, remove_base),
		cmocka_unit_test_setup_teardown(test_refused, make_base, remove_base),
		cmocka_unit_test_setup_teardown(test_formats, make_base, remove_base),
		cmocka_unit_test_setup_teardown(test_overlay_place, make_base, remove_base),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
