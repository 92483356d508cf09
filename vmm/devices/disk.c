/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/devices/disk.h"
#include "vmm/base/err.h"
#include "vmm/base/io.h"
#include "vmm/devices/disk-map.h"

/* Part of one cluster, which has this block. */
static int read_cluster(struct disk *disk, block_t block, uint64_t pos, void *buf, uint64_t len)
{
	if (!block)
		return io_pread(disk->base->fd, pos, buf, len);
	return io_pread(
		disk->base->overlay, (uint64_t)block * DISK_CLUSTER + pos % DISK_CLUSTER, buf, len);
}

int disk_read(struct disk *disk, uint64_t pos, void *buf, uint64_t len)
{
	struct disk_base *b = disk->base;

	while (len) {
		uint64_t n = DISK_CLUSTER - pos % DISK_CLUSTER;
		block_t block;
		int ret;

		n = n < len ? n : len;
		pthread_mutex_lock(&b->lock);
		block = map_lookup(disk, pos / DISK_CLUSTER);
		pthread_mutex_unlock(&b->lock);
		/* Our own slot keeps the block; nobody else writes into it. */
		ret = read_cluster(disk, block, pos, buf, n);
		if (ret)
			return ret;
		buf = (char *)buf + n;
		pos += n;
		len -= n;
	}
	return 0;
}

/* A new block with the content of `old` but for [pos, pos + len), which comes from buf. */
static int write_new_block(
	struct disk *disk, block_t old, block_t block, uint64_t pos, const void *buf, uint64_t len)
{
	uint64_t start = pos - pos % DISK_CLUSTER, have = disk->base->size - start;
	uint8_t cluster[DISK_CLUSTER] = { 0 };
	int ret = 0;

	if (len < DISK_CLUSTER)
		ret = read_cluster(
			disk, old, start, cluster, have < DISK_CLUSTER ? have : DISK_CLUSTER);
	if (ret)
		return ret;
	memcpy(cluster + pos % DISK_CLUSTER, buf, len);
	return io_pwrite(
		disk->base->overlay, (uint64_t)block * DISK_CLUSTER, cluster, DISK_CLUSTER);
}

/* Part of one cluster. */
static int write_cluster(struct disk *disk, uint64_t pos, const void *buf, uint64_t len)
{
	struct disk_base *b = disk->base;
	block_t *slot, old, block = 0;
	int ret;

	pthread_mutex_lock(&b->lock);
	ret = map_own_slot(disk, pos / DISK_CLUSTER, &slot);
	old = ret ? 0 : *slot;
	if (!ret && (!old || b->refs[old] > 1))
		ret = block_get(b, &block);
	pthread_mutex_unlock(&b->lock);
	if (ret)
		return ret;
	if (!block)
		return io_pwrite(
			b->overlay, (uint64_t)old * DISK_CLUSTER + pos % DISK_CLUSTER, buf, len);

	ret = write_new_block(disk, old, block, pos, buf, len);
	pthread_mutex_lock(&b->lock);
	if (!ret)
		*slot = block;
	block_put(b, ret ? block : old);
	pthread_mutex_unlock(&b->lock);
	return ret;
}

int disk_write(struct disk *disk, uint64_t pos, const void *buf, uint64_t len)
{
	if (disk->base->readonly)
		return -EROFS;
	while (len) {
		uint64_t n = DISK_CLUSTER - pos % DISK_CLUSTER;
		int ret;

		n = n < len ? n : len;
		ret = write_cluster(disk, pos, buf, n);
		if (ret)
			return ret;
		buf = (const char *)buf + n;
		pos += n;
		len -= n;
	}
	return 0;
}

uint64_t disk_size(const struct disk *disk)
{
	return disk->base->size;
}

bool disk_readonly(const struct disk *disk)
{
	return disk->base->readonly;
}

/* A file without a name in dir: made so, or made with one that is taken away at once, where the
 * file system cannot do better. */
static int nameless(const char *dir)
{
	int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	char path[PATH_MAX];

	if (fd >= 0)
		return fd;
	if (snprintf(path, sizeof(path), "%s/ramet-overlay.XXXXXX", dir) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	fd = mkostemp(path, O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (!unlink(path))
		return fd;
	close(fd);
	return -EPERM;
}

/* Never in memory unless the user's TMPDIR is: what a guest writes may be as large as its disk. */
static int overlay_open(struct disk_base *b, const char *path, struct ramet_err *err)
{
	const char *dir = getenv("TMPDIR");

	if (!dir || !*dir)
		dir = "/var/tmp";
	b->overlay = nameless(dir);
	if (b->overlay >= 0)
		return 0;
	return err_set(err, b->overlay,
		"disk '%s': no file can be made in '%s' for what VMs write to it: %s; set TMPDIR "
		"to a folder that has room for that",
		path, dir, strerror(-b->overlay));
}

/* What an image starts with that is no raw one. */
static const char *image_format(int fd, uint64_t size)
{
	static const struct {
		uint64_t at;
		const char *name, *magic;
		unsigned len;
	} formats[] = {
		{ 0, "qcow2", "QFI\xfb", 4 },
		{ 0, "QED", "QED", 4 },
		{ 0, "VMDK", "KDMV", 4 },
		{ 0, "VMDK", "COWD", 4 },
		{ 0, "VMDK", "# Disk DescriptorFile", 21 },
		{ 0, "VHDX", "vhdxfile", 8 },
		{ 0, "VHD", "conectix", 8 },
		{ 0x40, "VDI", "\x7f\x10\xda\xbe", 4 },
		{ 0, "Parallels", "WithoutFreeSpace", 16 },
		{ 0, "Parallels", "WithouFreSpacExt", 16 },
	};
	char buf[32];

	for (unsigned i = 0; i < sizeof(formats) / sizeof(formats[0]); i++)
		if (!io_pread(fd, formats[i].at, buf, formats[i].len) &&
			!memcmp(buf, formats[i].magic, formats[i].len))
			return formats[i].name;
	/* One of fixed size has its mark at the end only. */
	if (size >= DISK_SECTOR && !io_pread(fd, size - DISK_SECTOR, buf, 8) &&
		!memcmp(buf, "conectix", 8))
		return "VHD";
	return NULL;
}

static int base_open(struct disk_base *b, const char *path, struct ramet_err *err)
{
	const char *why, *format;

	b->fd = io_open_regular(path, &b->size, &why);
	if (b->fd < 0)
		return err_set(err, b->fd, "disk '%s': %s", path, why);
	format = image_format(b->fd, b->size);
	if (format)
		return err_set(err, -EINVAL,
			"disk '%s': a %s image, and disks are raw; make one: qemu-img convert -O "
			"raw IMAGE RAW",
			path, format);
	if (b->size < DISK_SECTOR || b->size > DISK_MAX)
		return err_set(err, -EINVAL, "disk '%s': %llu bytes; a disk has 512 to %llu", path,
			(unsigned long long)b->size, (unsigned long long)DISK_MAX);
	if (b->size % DISK_SECTOR)
		return err_set(err, -EINVAL,
			"disk '%s': %llu bytes: %llu sectors of 512 and %llu bytes; is it whole? "
			"'truncate -s %%512 FILE' fills it up",
			path, (unsigned long long)b->size,
			(unsigned long long)b->size / DISK_SECTOR,
			(unsigned long long)b->size % DISK_SECTOR);
	return b->readonly ? 0 : overlay_open(b, path, err);
}

static void base_free(struct disk_base *b)
{
	if (b->fd >= 0)
		close(b->fd);
	if (b->overlay >= 0)
		close(b->overlay);
	pthread_mutex_destroy(&b->lock);
	free(b->refs);
	free(b->free);
	free(b);
}

int disk_open(const char *path, bool readonly, struct disk **out, struct ramet_err *err)
{
	struct disk_base *b = calloc(1, sizeof(*b));
	struct disk *disk = calloc(1, sizeof(*disk));
	int ret;

	if (!b || !disk) {
		free(b);
		free(disk);
		return err_set(err, -ENOMEM, "disk '%s': out of memory", path);
	}
	*b = (struct disk_base){
		.readonly = readonly, .fd = -1, .overlay = -1, .disks = 1, .end = 1
	};
	pthread_mutex_init(&b->lock, NULL);
	ret = base_open(b, path, err);
	if (ret) {
		base_free(b);
		free(disk);
		return ret;
	}
	disk->base = b;
	*out = disk;
	return 0;
}

int disk_clone(const struct disk *disk, struct disk **out)
{
	struct disk *to = malloc(sizeof(*to));

	if (!to)
		return -ENOMEM;
	*to = *disk;
	pthread_mutex_lock(&disk->base->lock);
	disk->base->disks++;
	map_share(to);
	pthread_mutex_unlock(&disk->base->lock);
	*out = to;
	return 0;
}

void disk_free(struct disk *disk)
{
	struct disk_base *b;
	bool last;

	if (!disk)
		return;
	b = disk->base;
	pthread_mutex_lock(&b->lock);
	map_drop(disk);
	last = !--b->disks;
	pthread_mutex_unlock(&b->lock);
	if (last)
		base_free(b);
	free(disk);
}
