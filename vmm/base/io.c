/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Handles the result of one call. Only this function decides what EINTR and a result of 0 mean. */
static int progress(ssize_t n, size_t *done)
{
	if (n > 0)
		*done += (size_t)n;
	else if (n == 0)
		return -EIO;
	else if (errno != EINTR)
		return -errno;
	return 0;
}

int io_read(int fd, void *buf, size_t len)
{
	int ret = 0;

	for (size_t done = 0; done < len && !ret;)
		ret = progress(read(fd, (char *)buf + done, len - done), &done);
	return ret;
}

int io_write(int fd, const void *buf, size_t len)
{
	int ret = 0;

	for (size_t done = 0; done < len && !ret;)
		ret = progress(write(fd, (const char *)buf + done, len - done), &done);
	return ret;
}

int io_pread(int fd, uint64_t pos, void *buf, size_t len)
{
	int ret = 0;

	for (size_t done = 0; done < len && !ret;)
		ret = progress(
			pread(fd, (char *)buf + done, len - done, (off_t)(pos + done)), &done);
	return ret;
}

int io_pwrite(int fd, uint64_t pos, const void *buf, size_t len)
{
	int ret = 0;

	for (size_t done = 0; done < len && !ret;)
		ret = progress(
			pwrite(fd, (const char *)buf + done, len - done, (off_t)(pos + done)),
			&done);
	return ret;
}

/* Skips `done` bytes, and empty pieces after them. */
static void skip(struct iovec **iov, unsigned *n, size_t done)
{
	while (*n && done >= (*iov)->iov_len) {
		done -= (*iov)->iov_len;
		++*iov;
		--*n;
	}
	if (*n) {
		(*iov)->iov_base = (char *)(*iov)->iov_base + done;
		(*iov)->iov_len -= done;
	}
}

static int all_of(ssize_t (*call)(int fd, const struct iovec *iov, int n, off_t pos), int fd,
	uint64_t pos, struct iovec *iov, unsigned n)
{
	int ret = 0;

	for (skip(&iov, &n, 0); n && !ret;) {
		size_t done = 0;

		ret = progress(call(fd, iov, (int)n, (off_t)pos), &done);
		pos += done;
		skip(&iov, &n, done);
	}
	return ret;
}

int io_preadv(int fd, uint64_t pos, struct iovec *iov, unsigned n)
{
	return all_of(preadv, fd, pos, iov, n);
}

int io_pwritev(int fd, uint64_t pos, struct iovec *iov, unsigned n)
{
	return all_of(pwritev, fd, pos, iov, n);
}

int io_open_regular(const char *path, uint64_t *size, const char **why)
{
	/* O_NONBLOCK: otherwise open() may wait for a FIFO's writer or a line's carrier. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK), ret = -EINVAL;
	struct stat st;

	*why = "not a regular file";
	if (fd < 0) {
		ret = -errno;
		if (ret != -ENXIO) /* a socket */
			*why = strerror(-ret);
		return ret;
	}
	if (!fstat(fd, &st) && S_ISREG(st.st_mode) && !fcntl(fd, F_SETFL, 0)) {
		*size = (uint64_t)st.st_size;
		return fd;
	}
	close(fd);
	return ret;
}
