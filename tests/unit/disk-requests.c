/* SPDX-License-Identifier: Apache-2.0 */
/* How many locks and system calls a request to a disk takes, and what happens when a call does
 * less.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include <cmocka.h>

#include "tests/unit/disk-common.h"

/* Counts the locks and system calls of a disk. Can also make a call transfer only a few bytes. */
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

/* Consecutive clusters that are also consecutive in one file cost one lock and one call. */
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
	/* In place, new, and again in place, at another place in the file. */
	write_counted(&m, 0, CLUSTERS(40), CLUSTERS(22), 3, 0, 2);
	/* The last cluster is shorter than a block. */
	write_counted(&m, 0, SIZE - CLUSTERS(3), CLUSTERS(3), 1, 2, 2);
	read_counted(&m, 0, SIZE - CLUSTERS(8), CLUSTERS(8), 2, 1);
	/* A clone's first write takes new blocks, and does not change the shared ones. */
	model_clone(&m, 0);
	read_counted(&m, 1, CLUSTERS(16), CLUSTERS(24), 1, 1);
	write_counted(&m, 1, CLUSTERS(16), CLUSTERS(8), 1, 0, 2);
	read_counted(&m, 1, CLUSTERS(16), CLUSTERS(24), 2, 1);
	read_counted(&m, 0, CLUSTERS(16), CLUSTERS(24), 1, 1);
	/* Blocks that the other disk has freed are used again, as consecutive blocks. */
	write_counted(&m, 0, CLUSTERS(16), CLUSTERS(8), 1, 0, 1);
	model_free(&m, 0);
	write_counted(&m, 0, CLUSTERS(200), CLUSTERS(8), 1, 0, 2);
	model_end(&m);
}

/* More extents, and more pieces of memory, than one step handles. */
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

/* A system call may be interrupted, or transfer fewer bytes than asked for. */
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

/* If a part of a request finds no space, only the clusters that are written in place change. */
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_coalesced, make_base, remove_base),
		cmocka_unit_test_setup_teardown(test_many, make_base, remove_base),
		cmocka_unit_test_setup_teardown(test_short, make_base, remove_base),
		cmocka_unit_test_setup_teardown(test_full_at_once, make_base, remove_base),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
