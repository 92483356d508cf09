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

_Static_assert(MAP_CLUSTER == DISK_CLUSTER, "one is for disk-map.c, the other for all others");

#define EXTENTS 64u  /* extents that are looked up while the lock is held once */
#define CHANGES 256u /* clusters whose blocks are found while the lock is held once */
#define PIECES	128u /* pieces of memory for one system call */

/* The part of a request's memory that has not been transferred yet. */
struct rest {
	const struct iovec *iov;
	size_t skip; /* bytes of *iov that have been transferred */
	uint64_t len;
};

static struct rest rest_of(const struct iovec *iov, unsigned n)
{
	struct rest rest = { .iov = iov };

	for (unsigned i = 0; i < n; i++)
		rest.len += iov[i].iov_len;
	return rest;
}

/* Takes *len bytes off the front, or fewer if they are in more than PIECES pieces. Returns the
 * number of pieces, and their bytes in *len. */
static unsigned take(struct rest *rest, uint64_t *len, struct iovec piece[PIECES])
{
	uint64_t left = *len;
	unsigned n = 0;

	while (left && n < PIECES) {
		uint64_t some = rest->iov->iov_len - rest->skip;

		some = some < left ? some : left;
		piece[n++] = (struct iovec){ (char *)rest->iov->iov_base + rest->skip, some };
		rest->skip += some;
		left -= some;
		if (rest->skip == rest->iov->iov_len) {
			rest->iov++;
			rest->skip = 0;
		}
	}
	*len -= left;
	rest->len -= *len;
	return n;
}

/* Consecutive bytes of one file. */
struct extent {
	int fd;
	uint64_t pos, len;
};

/* Reads or writes an extent, from or to the memory at the front of rest. */
static int transfer(const struct extent *e, struct rest *rest,
	int (*call)(int fd, uint64_t pos, struct iovec *iov, unsigned n))
{
	struct iovec piece[PIECES];
	int ret = 0;

	for (uint64_t done = 0, len; done < e->len && !ret; done += len) {
		unsigned n;

		len = e->len - done;
		n = take(rest, &len, piece);
		ret = call(e->fd, e->pos + done, piece, n);
	}
	return ret;
}

/* Where [pos, pos + len) of the disk is. This range is within one cluster, whose block is `block`.
 */
static struct extent extent_of(const struct disk *disk, block_t block, uint64_t pos, uint64_t len)
{
	const struct disk_base *b = disk->base;

	return block ? (struct extent){ b->overlay,
		(uint64_t)block * DISK_CLUSTER + pos % DISK_CLUSTER, len }
		     : (struct extent){ b->fd, pos, len };
}

static uint64_t to_cluster_end(uint64_t pos, uint64_t len)
{
	uint64_t n = DISK_CLUSTER - pos % DISK_CLUSTER;

	return n < len ? n : len;
}

/* Extends the last of n extents by e, or adds e as another one. Returns the new number of extents.
 */
static unsigned add_extent(struct extent *list, unsigned n, const struct extent *e)
{
	struct extent *last = n ? &list[n - 1] : NULL;

	if (last && last->fd == e->fd && last->pos + last->len == e->pos) {
		last->len += e->len;
		return n;
	}
	list[n] = *e;
	return n + 1;
}

/* Finds the extents of [pos, pos + len), at most max of them. Returns their number. */
static unsigned find_extents(
	struct disk *disk, uint64_t pos, uint64_t len, struct extent *list, unsigned max)
{
	unsigned n = 0;

	lock_take(&disk->base->lock);
	while (len && n < max) {
		uint64_t some = to_cluster_end(pos, len);
		struct extent e = extent_of(disk, map_lookup(disk, pos / DISK_CLUSTER), pos, some);

		n = add_extent(list, n, &e);
		pos += some;
		len -= some;
	}
	lock_release(&disk->base->lock);
	return n;
}

int disk_readv(struct disk *disk, uint64_t pos, const struct iovec *iov, unsigned n)
{
	struct rest rest = rest_of(iov, n);
	struct extent list[EXTENTS];
	int ret = 0;

	while (rest.len && !ret) {
		unsigned n_extents = find_extents(disk, pos, rest.len, list, EXTENTS);

		/* The blocks stay as they are without the lock: this disk's map names them, and
		 * only the caller may change the map. */
		for (unsigned i = 0; i < n_extents && !ret; i++) {
			pos += list[i].len;
			ret = transfer(&list[i], &rest, io_preadv);
		}
	}
	return ret;
}

/* A cluster, or a part of one, that is to be written. */
struct change {
	block_t *slot;
	block_t old; /* the cluster's present block */
	block_t new; /* the block that replaces old; 0: old is written in place */
	uint64_t pos, len;
	bool written;
};

/* Finds blocks for [pos, pos + len) of a disk, for at most CHANGES clusters. Returns the number of
 * clusters, or -errno if there is no block for the first one. */
static int plan(struct disk *disk, uint64_t pos, uint64_t len, struct change list[CHANGES])
{
	struct disk_base *b = disk->base;
	int n = 0, ret = 0;

	lock_take(&b->lock);
	while (len && n < (int)CHANGES) {
		struct change *c = &list[n];

		*c = (struct change){ .pos = pos, .len = to_cluster_end(pos, len) };
		ret = map_own_slot(disk, pos / DISK_CLUSTER, &c->slot);
		c->old = ret ? 0 : *c->slot;
		if (!ret && (!c->old || b->refs[c->old] > 1))
			ret = block_get(b, &c->new);
		if (ret)
			break;
		pos += c->len;
		len -= c->len;
		n++;
	}
	lock_release(&b->lock);
	return n ? n : ret;
}

/* Writes a part of a cluster to a new block, together with the rest of the old block. */
static int write_part(struct disk *disk, const struct change *c, struct rest *rest)
{
	uint64_t start = c->pos - c->pos % DISK_CLUSTER, have = disk->base->size - start;
	struct extent old =
		extent_of(disk, c->old, start, have < DISK_CLUSTER ? have : DISK_CLUSTER);
	uint8_t cluster[DISK_CLUSTER] = { 0 }, *at = cluster + c->pos % DISK_CLUSTER;
	int ret = io_pread(old.fd, old.pos, cluster, old.len);

	if (ret)
		return ret;
	for (uint64_t left = c->len, len; left; left -= len) {
		struct iovec piece[PIECES];
		unsigned n;

		len = left;
		n = take(rest, &len, piece);
		for (unsigned i = 0; i < n; i++) {
			memcpy(at, piece[i].iov_base, piece[i].iov_len);
			at += piece[i].iov_len;
		}
	}
	return io_pwrite(
		disk->base->overlay, (uint64_t)c->new *DISK_CLUSTER, cluster, DISK_CLUSTER);
}

static bool is_part(const struct change *c)
{
	return c->new && c->len < DISK_CLUSTER;
}

/* Writes the first of n changes, together with the next ones that follow it in the same file.
 * Returns how many it has written, or -errno. */
static int write_some(struct disk *disk, struct change *c, unsigned n, struct rest *rest)
{
	struct extent all;
	unsigned some = 0;
	int ret;

	if (is_part(c)) {
		ret = write_part(disk, c, rest);
		some = 1;
	} else {
		all = extent_of(disk, c->new ? c->new : c->old, c->pos, 0);
		for (; some < n && !is_part(&c[some]); some++) {
			struct extent e = extent_of(disk, c[some].new ? c[some].new : c[some].old,
				c[some].pos, c[some].len);

			if (e.pos != all.pos + all.len)
				break;
			all.len += e.len;
		}
		ret = transfer(&all, rest, io_pwritev);
	}
	for (unsigned i = 0; i < some; i++)
		c[i].written = !ret;
	return ret ? ret : (int)some;
}

/* Puts the new blocks that have been written into the map. Drops the blocks that these replace, and
 * new blocks that could not be written. */
static void publish(struct disk *disk, struct change *list, unsigned n)
{
	struct disk_base *b = disk->base;
	bool any = false;

	for (unsigned i = 0; i < n; i++)
		any |= list[i].new != 0;
	if (!any)
		return;
	lock_take(&b->lock);
	/* Backwards, so that block_get() will hand the freed blocks out in ascending order. */
	for (struct change *c = list + n; c-- > list;) {
		if (!c->new)
			continue;
		if (c->written)
			*c->slot = c->new;
		block_put(b, c->written ? c->old : c->new);
	}
	lock_release(&b->lock);
}

int disk_writev(struct disk *disk, uint64_t pos, const struct iovec *iov, unsigned n)
{
	struct rest rest = rest_of(iov, n);
	struct change list[CHANGES];
	int ret = 0;

	if (disk->base->readonly)
		return -EROFS;
	while (rest.len && ret >= 0) {
		int n_changes = plan(disk, pos, rest.len, list);

		if (n_changes <= 0)
			return n_changes;
		for (int i = 0; i < n_changes && ret >= 0; i += ret)
			ret = write_some(disk, &list[i], (unsigned)(n_changes - i), &rest);
		pos = list[n_changes - 1].pos + list[n_changes - 1].len;
		publish(disk, list, (unsigned)n_changes);
	}
	return ret < 0 ? ret : 0;
}

uint64_t disk_size(const struct disk *disk)
{
	return disk->base->size;
}

bool disk_readonly(const struct disk *disk)
{
	return disk->base->readonly;
}

/* Makes a file without a name in dir. Where the file system cannot do that, makes one with a name
 * and removes the name at once. */
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

/* The overlay file must not be in memory (in a tmpfs), unless the user chooses so by TMPDIR: a
 * guest may write as many bytes as its disk has. */
static int overlay_open(struct disk_base *b, const char *path, struct ramet_err *err)
{
	const char *dir = getenv("TMPDIR");

	if (!dir || !*dir)
		dir = "/var/tmp";
	b->overlay = nameless(dir);
	if (b->overlay >= 0)
		return 0;
	return err_set(err, b->overlay,
		"disk '%s': no file can be made in '%s' for the data that VMs write to the disk: "
		"%s; set TMPDIR to a folder with enough free space",
		path, dir, strerror(-b->overlay));
}

/* The name of an image's format. NULL: the image is raw. */
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
	/* A VHD of fixed size has its mark at the end only. */
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
			"disk '%s': this is a %s image, but a disk must be a raw image; convert "
			"it: qemu-img convert -O raw IMAGE RAW",
			path, format);
	if (b->size < DISK_SECTOR || b->size > DISK_MAX)
		return err_set(err, -EINVAL, "disk '%s': %llu bytes, but a disk has 512 to %llu",
			path, (unsigned long long)b->size, (unsigned long long)DISK_MAX);
	if (b->size % DISK_SECTOR)
		return err_set(err, -EINVAL,
			"disk '%s': %llu bytes are %llu sectors of 512 and %llu bytes more; is the "
			"file complete? 'truncate -s %%512 FILE' fills up the last sector",
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
	lock_destroy(&b->lock);
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
	lock_init(&b->lock, LOCK_DISK_BASE);
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
	lock_take(&disk->base->lock);
	disk->base->disks++;
	map_share(to);
	lock_release(&disk->base->lock);
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
	lock_take(&b->lock);
	map_drop(disk);
	last = !--b->disks;
	lock_release(&b->lock);
	if (last)
		base_free(b);
	free(disk);
}

int disk_check(struct disk *const *disks, unsigned n)
{
	return map_check(disks, n);
}
