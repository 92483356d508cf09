/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Split virtqueues, the device's side: Virtual I/O Device (VIRTIO) Version 1.2, 2.7. Everything in
 * guest memory is hostile and may change while it is read: each word is read once, then checked.
 */
#ifndef RAMET_VMM_DEVICES_VIRTQ_H
#define RAMET_VMM_DEVICES_VIRTQ_H

#include "vmm/devices/device.h"

#define VIRTQ_SIZE_MAX 128u

struct virtq {
	uint16_t size; /* a power of two up to VIRTQ_SIZE_MAX */
	bool ready;
	uint16_t vector;
	gpa_t desc, avail, used;
	uint16_t last_avail; /* the next entry of the available ring to take */
	uint16_t used_idx;
};

/* A descriptor chain: first a stream of bytes that the device reads, then one that it writes. */
struct virtq_chain {
	uint16_t head;
	unsigned n_read, n; /* seg[0..n_read) are read, seg[n_read..n) are written */
	uint64_t read_len, write_len;
	struct {
		gpa_t at;
		uint32_t len;
	} seg[VIRTQ_SIZE_MAX];
};

/* Takes the next chain. 1: done. 0: there is none. -EPROTO: the queue is broken. */
int virtq_pop(struct port *port, struct virtq *q, struct virtq_chain *chain);
/* Returns a chain to the driver. `written`: bytes of its writable part that are filled. 0 or
 * -EPROTO. */
int virtq_push(
	struct port *port, struct virtq *q, const struct virtq_chain *chain, uint32_t written);
/* Whether the driver wants an interrupt for the chains that were pushed. */
bool virtq_wants_interrupt(struct port *port, const struct virtq *q);

/* A place in the readable or the writable stream of a chain. */
struct virtq_cursor {
	const struct virtq_chain *chain;
	unsigned seg, end; /* the current segment; the one after the stream's last one */
	uint64_t at;	   /* a byte of the current segment */
};
struct virtq_cursor virtq_at(const struct virtq_chain *chain, bool writable, uint64_t offset);
/* Returns a pointer to the bytes at the cursor. *len: in: the number of bytes wanted; out: how many
 * of these are in one piece. Moves the cursor behind them. NULL: the stream ends here, or this is
 * not RAM. */
void *virtq_next(struct port *port, struct virtq_cursor *cursor, uint64_t *len);
/* Copies all of len bytes. 0 or -EFAULT. */
int virtq_read(struct port *port, const struct virtq_chain *chain, uint64_t offset, void *buf,
	uint64_t len);
int virtq_write(struct port *port, const struct virtq_chain *chain, uint64_t offset,
	const void *buf, uint64_t len);

#endif
