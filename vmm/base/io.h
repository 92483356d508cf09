/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files: open without waiting, read and write completely. A signal during the call is no error
 * (vCPU threads get one at each stop): the call continues where it was interrupted.
 */
#ifndef RAMET_VMM_BASE_IO_H
#define RAMET_VMM_BASE_IO_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

/* Transfer all of len. 0, or -errno; -EIO: the file ends too early. After an error a part may have
 * been transferred. */
int io_read(int fd, void *buf, size_t len);
int io_write(int fd, const void *buf, size_t len);
int io_pread(int fd, uint64_t pos, void *buf, size_t len);
int io_pwrite(int fd, uint64_t pos, const void *buf, size_t len);
/* The same for n pieces of memory, at most IOV_MAX. iov[] is used up: its contents change. */
int io_preadv(int fd, uint64_t pos, struct iovec *iov, unsigned n);
int io_pwritev(int fd, uint64_t pos, struct iovec *iov, unsigned n);

/*
 * Opens a regular file for reading, and returns its size. Any other kind of file is refused at
 * once, without waiting. Returns a descriptor, or -errno and the reason in *why.
 */
int io_open_regular(const char *path, uint64_t *size, const char **why);

#endif
