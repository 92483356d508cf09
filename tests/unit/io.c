/* SPDX-License-Identifier: Apache-2.0 */
/* Complete reads and writes in spite of signals; opening a file that is not regular does not wait.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <cmocka.h>

#include "vmm/base/io.h"

#define LEN (1u << 20) /* more than a pipe holds */

static char dir[64];
static volatile sig_atomic_t signals;

static void count_signal(int sig)
{
	signals++;
}

static const char *at(const char *name)
{
	static char path[100];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

/* The other end of a pipe: slow, and it interrupts the thread under test before each piece. */
struct other {
	pthread_t thread, target;
	int fd;
	bool reads;
	uint8_t *bytes;
};

static void *other_main(void *arg)
{
	struct other *o = arg;

	for (size_t done = 0; done < LEN;) {
		size_t piece = LEN - done < 50000 ? LEN - done : 50000;
		ssize_t n;

		usleep(2000); /* the target waits by now */
		pthread_kill(o->target, SIGUSR1);
		usleep(500);
		n = o->reads ? read(o->fd, o->bytes + done, piece)
			     : write(o->fd, o->bytes + done, piece);
		if (n <= 0)
			break;
		done += (size_t)n;
	}
	return NULL;
}

static void interrupted(bool reads)
{
	struct sigaction sa = { .sa_handler = count_signal }; /* no SA_RESTART */
	uint8_t *mine = malloc(LEN), *theirs = malloc(LEN);
	struct other o = { .target = pthread_self(), .reads = !reads, .bytes = theirs };
	int fd[2];

	assert_true(mine && theirs);
	for (size_t i = 0; i < LEN; i++)
		(reads ? theirs : mine)[i] = (uint8_t)(i * 7 + i / 256);
	assert_int_equal(pipe(fd), 0);
	assert_int_equal(sigaction(SIGUSR1, &sa, NULL), 0);
	signals = 0;
	o.fd = fd[reads ? 1 : 0];
	assert_int_equal(pthread_create(&o.thread, NULL, other_main, &o), 0);
	assert_int_equal(reads ? io_read(fd[0], mine, LEN) : io_write(fd[1], mine, LEN), 0);
	pthread_join(o.thread, NULL);
	assert_true(signals > 0);
	assert_memory_equal(mine, theirs, LEN);
	/* At the end of the data, a read fails and does not wait. */
	close(fd[1]);
	assert_int_equal(io_read(fd[0], mine, 1), -EIO);
	close(fd[0]);
	free(mine);
	free(theirs);
}

static void test_interrupted_read(void **state)
{
	interrupted(true);
}

static void test_interrupted_write(void **state)
{
	interrupted(false);
}

static void test_positions(void **state)
{
	int fd = open(at("file"), O_RDWR | O_CREAT, 0600);
	char buf[8] = "";

	assert_true(fd >= 0);
	assert_int_equal(io_pwrite(fd, 1000, "hello", 5), 0);
	assert_int_equal(io_pwrite(fd, 1002, "LL", 2), 0);
	assert_int_equal(io_pread(fd, 1000, buf, 5), 0);
	assert_string_equal(buf, "heLLo");
	assert_int_equal(io_pread(fd, 999, buf, 7), -EIO); /* it ends at 1005 */
	assert_int_equal(io_pread(fd, 1005, buf, 0), 0);
	assert_int_equal(io_pread(-1, 0, buf, 1), -EBADF);
	assert_int_equal(io_write(-1, buf, 1), -EBADF);
	close(fd);
}

static void refused(const char *path, int error, const char *words)
{
	const char *why = NULL;
	uint64_t size = 42;

	assert_int_equal(io_open_regular(path, &size, &why), error);
	if (!strstr(why, words))
		fail_msg("'%s': '%s'", path, why);
	assert_int_equal(size, 42);
}

/* If io_open_regular() waited for one of these files, the test would exceed its time limit. */
static void test_open(void **state)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int sock = socket(AF_UNIX, SOCK_STREAM, 0), fd;
	const char *why;
	uint64_t size;

	assert_int_equal(mkfifo(at("fifo"), 0600), 0);
	refused(at("fifo"), -EINVAL, "not a regular file");
	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", at("socket"));
	assert_int_equal(bind(sock, (struct sockaddr *)&sa, sizeof(sa)), 0);
	refused(at("socket"), -ENXIO, "not a regular file");
	close(sock);
	refused(dir, -EINVAL, "not a regular file");
	refused("/dev/zero", -EINVAL, "not a regular file");
	refused(at("none"), -ENOENT, "No such file");
	fd = open(at("four"), O_WRONLY | O_CREAT, 0600);
	assert_int_equal(io_write(fd, "four", 4), 0);
	close(fd);
	fd = io_open_regular(at("four"), &size, &why);
	assert_true(fd >= 0);
	assert_int_equal(size, 4);
	assert_int_equal(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	close(fd);
}

static int make_dir(void **state)
{
	strcpy(dir, "/tmp/ramet-unit-io.XXXXXX");
	return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
	static const char *const names[] = { "file", "fifo", "socket", "four" };

	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		unlink(at(names[i]));
	return rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_interrupted_read),
		cmocka_unit_test(test_interrupted_write),
		cmocka_unit_test(test_positions),
		cmocka_unit_test(test_open),
	};

	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
