/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* What one call came to: the one place that decides what EINTR and "nothing" mean. */
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

int io_open_regular(const char *path, uint64_t *size, const char **why)
{
	/* O_NONBLOCK: opening a FIFO waits for a writer otherwise, some devices for a carrier. */
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
