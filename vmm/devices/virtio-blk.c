/* SPDX-License-Identifier: Apache-2.0 */
/* Block device: VIRTIO 1.2, 5.2. */
#include <errno.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_ids.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/devices/disk.h"
#include "vmm/devices/virtio-devices.h"

#define REQUEST_MAX (32ull << 20)	 /* bytes of data; Linux asks for a few MiB at most */
#define SEGMENTS    (VIRTQ_SIZE_MAX - 2) /* the header and the status use two descriptors */

struct virtio_blk {
	struct virtio v;
	struct disk *disk;
	bool told; /* an error of the host has been printed on this VM's console */
};

static struct virtio_blk *blk_of(struct virtio *v)
{
	return (struct virtio_blk *)v;
}

/* Reads or writes len bytes of the disk from `pos` on. The data of the chain begin at offset `at`
 * of its readable or writable stream. */
static int transfer(struct virtio_blk *blk, const struct virtq_chain *chain, bool read, uint64_t at,
	uint64_t pos, uint64_t len)
{
	struct virtq_cursor c = virtq_at(chain, read, at);
	struct iovec piece[VIRTQ_SIZE_MAX]; /* one of each segment, at most */
	unsigned n = 0;

	for (uint64_t some; len; len -= some) {
		void *p;

		some = len;
		p = virtq_next(blk->v.fn.port, &c, &some);
		if (!p)
			return -EFAULT;
		piece[n++] = (struct iovec){ p, some };
	}
	/* cppcheck-suppress uninitvar; without data n is 0, and no piece is looked at */
	return read ? disk_readv(blk->disk, pos, piece, n) : disk_writev(blk->disk, pos, piece, n);
}

/* Prints the reason of an I/O error on the VM's console, for the owner of the VM: the host's disk
 * is full, or the base file has become shorter. The guest sees only an I/O error. */
static void tell(struct virtio_blk *blk, bool read, int error)
{
	char line[256];
	int n;

	if (blk->told || error == -EFAULT || error == -EROFS)
		return; /* errors that the guest has made */
	blk->told = true;
	n = snprintf(line, sizeof(line),
		"\r\nramet: the host cannot %s this VM's disk: %s%s; the guest gets I/O errors\r\n",
		read ? "read from" : "write to", strerror(-error),
		error == -ENOSPC ? " (where TMPDIR was, or in /var/tmp)" : "");
	port_console(blk->v.fn.port, line, (size_t)n);
}

/* Reads or writes `len` bytes at the sector that the header names. Returns a status. */
static uint8_t data_request(struct virtio_blk *blk, const struct virtq_chain *chain, bool read,
	uint64_t sector, uint64_t len)
{
	uint64_t size = disk_size(blk->disk);
	int ret;

	if (len % DISK_SECTOR || len > REQUEST_MAX || sector > size / DISK_SECTOR ||
		len > size - sector * DISK_SECTOR)
		return VIRTIO_BLK_S_IOERR;
	ret = transfer(blk, chain, read, read ? 0 : sizeof(struct virtio_blk_outhdr),
		sector * DISK_SECTOR, len);
	if (ret)
		tell(blk, read, ret);
	return ret ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_OK;
}

static int64_t blk_request(struct virtio *v, const struct virtq_chain *chain)
{
	struct virtio_blk *blk = blk_of(v);
	struct virtio_blk_outhdr hdr;
	uint64_t written = 1; /* the status: the last byte of the writable part */
	uint8_t status = VIRTIO_BLK_S_UNSUPP;
	char id[VIRTIO_BLK_ID_BYTES] = "ramet";

	if (!chain->write_len || virtq_read(v->fn.port, chain, 0, &hdr, sizeof(hdr)))
		return -EPROTO;
	switch (hdr.type) {
	case VIRTIO_BLK_T_IN:
		status = data_request(blk, chain, true, hdr.sector, chain->write_len - 1);
		if (status == VIRTIO_BLK_S_OK)
			written = chain->write_len;
		break;
	case VIRTIO_BLK_T_OUT:
		status = data_request(blk, chain, false, hdr.sector, chain->read_len - sizeof(hdr));
		break;
	case VIRTIO_BLK_T_FLUSH:
		/* No overlay outlives the family's process, so no data must reach the host's
		 * disk. */
		status = VIRTIO_BLK_S_OK;
		break;
	case VIRTIO_BLK_T_GET_ID:
		if (chain->write_len - 1 == sizeof(id) &&
			!virtq_write(v->fn.port, chain, 0, id, sizeof(id))) {
			status = VIRTIO_BLK_S_OK;
			written = chain->write_len;
		}
		break;
	}
	return virtq_write(v->fn.port, chain, chain->write_len - 1, &status, 1) ? -EPROTO
										: (int64_t)written;
}

static int blk_kick(struct virtio *v, unsigned queue)
{
	return virtio_serve(v, queue, blk_request);
}

static int blk_clone(const struct virtio *v, struct port *port, struct virtio **out)
{
	const struct virtio_blk *from = (const struct virtio_blk *)v;
	struct pci_function *fn;
	struct disk *disk;
	int ret = disk_clone(from->disk, &disk);

	if (!ret)
		ret = virtio_blk_new(port, disk, &fn);
	else
		disk = NULL;
	if (ret)
		disk_free(disk);
	else
		*out = virtio_of(fn);
	return ret;
}

static void blk_free(struct virtio *v)
{
	disk_free(blk_of(v)->disk);
	virtio_destroy(v);
	free(v);
}

static const struct virtio_ops blk_ops = {
	.id = VIRTIO_ID_BLOCK,
	.class = 0x018000, /* another mass storage controller */
	.queues = 1,
	.kick = blk_kick,
	.clone = blk_clone,
	.free = blk_free,
};

int virtio_blk_new(struct port *port, struct disk *disk, struct pci_function **out)
{
	struct virtio_blk_config config = {
		.capacity = disk_size(disk) / DISK_SECTOR,
		.seg_max = SEGMENTS,
	};
	uint64_t features = 1ull << VIRTIO_BLK_F_FLUSH | 1ull << VIRTIO_BLK_F_SEG_MAX |
			    (disk_readonly(disk) ? 1ull << VIRTIO_BLK_F_RO : 0);
	struct virtio_blk *blk = calloc(1, sizeof(*blk));

	if (!blk)
		return -ENOMEM;
	/* Up to the last field of the features that the device offers. */
	virtio_init(&blk->v, &blk_ops, port, features, &config,
		offsetof(struct virtio_blk_config, geometry));
	blk->disk = disk;
	*out = &blk->v.fn;
	return 0;
}
