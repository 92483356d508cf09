/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disks of a family: a base file that is never written, and for each VM a map of the clusters that
 * have been written. The map is a tree whose nodes are shared copy-on-write, as second-level tables
 * are: cloning a disk takes one reference, the first write below a shared node copies that node,
 * and a node with one reference is changed in place.
 *
 *     disk -> node (512 spans) -> node -> node (512 clusters) -> block of the overlay file
 *
 * node.refs counts the links from nodes and disks to a node; refs[] counts the leaf slots that name
 * a block. The overlay file has no name and lies in $TMPDIR (or /var/tmp). Blocks that no slot
 * names are punched out of the file.
 *
 * The owner of a disk makes only one call on it at a time. Different disks of one base may be used
 * at the same time.
 */
#ifndef RAMET_VMM_DEVICES_DISK_H
#define RAMET_VMM_DEVICES_DISK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "include/ramet/ramet.h"

struct disk;

#define DISK_CLUSTER 4096u
#define DISK_SECTOR  512u
#define DISK_MAX     ((uint64_t)DISK_CLUSTER << 27) /* 512 GiB: three levels of 512 */

/* Opens a base: a raw image of whole sectors. A file that looks like an image of another format is
 * refused. 0 or -errno. */
int disk_open(const char *path, bool readonly, struct disk **out, struct ramet_err *err);
/* Makes another disk with the same content. 0 or -ENOMEM. */
int disk_clone(const struct disk *disk, struct disk **out);
void disk_free(struct disk *disk); /* disk may be NULL */

uint64_t disk_size(const struct disk *disk);
bool disk_readonly(const struct disk *disk);
/* Read or write as many bytes from pos on as the n pieces of memory have. The whole range must be
 * on the disk. Consecutive clusters that are also consecutive in one file cost one lock and one
 * system call. 0; -EROFS; -EIO, -ENOSPC, -ENOMEM: some bytes may have been written. */
int disk_readv(struct disk *disk, uint64_t pos, const struct iovec *iov, unsigned n);
int disk_writev(struct disk *disk, uint64_t pos, const struct iovec *iov, unsigned n);

static inline int disk_read(struct disk *disk, uint64_t pos, void *buf, uint64_t len)
{
	return disk_readv(disk, pos, &(struct iovec){ buf, len }, 1);
}

static inline int disk_write(struct disk *disk, uint64_t pos, const void *buf, uint64_t len)
{
	return disk_writev(disk, pos, &(struct iovec){ (void *)buf, len }, 1);
}

/* For tests: counts the nodes and blocks of the given disks again, and compares these counts with
 * the base's. disks[] must have all disks of one base. 0, -EUCLEAN or -ENOMEM. */
int disk_check(struct disk *const *disks, unsigned n);

#endif
