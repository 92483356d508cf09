/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files: opened without waiting, read and written whole. A signal that comes in between (vCPU
 * threads get one for each stop) is no error: what it interrupted goes on where it was.
 */
#ifndef RAMET_VMM_BASE_IO_H
#define RAMET_VMM_BASE_IO_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

/* All of len, or -errno; -EIO where the file ends before. Some of it may have been done then. */
int io_read(int fd, void *buf, size_t len);
int io_write(int fd, const void *buf, size_t len);
int io_pread(int fd, uint64_t pos, void *buf, size_t len);
int io_pwrite(int fd, uint64_t pos, const void *buf, size_t len);
/* The same for n pieces of memory, at most IOV_MAX. iov[] is used up: its contents change. */
int io_preadv(int fd, uint64_t pos, struct iovec *iov, unsigned n);
int io_pwritev(int fd, uint64_t pos, struct iovec *iov, unsigned n);

/*
 * Opens a regular file for reading, and tells its size. What is something else is refused at once:
 * a FIFO is not waited for. A descriptor, or -errno with *why set to words for it.
 */
int io_open_regular(const char *path, uint64_t *size, const char **why);

#endif
