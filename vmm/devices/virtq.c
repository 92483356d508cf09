/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <linux/virtio_ring.h>
#include <string.h>

#include "vmm/devices/virtq.h"

/* Reads a ring index. Running vCPUs change ring indices, so the order of the accesses is the one
 * that 2.7.13 and 2.7.14 require. */
static bool load16(struct port *port, gpa_t at, uint16_t *value)
{
	const uint16_t *p = port_mem(port, at, sizeof(*p));

	if (p)
		*value = __atomic_load_n(p, __ATOMIC_ACQUIRE);
	return p;
}

/* Reads a descriptor, each field once. */
static bool load_desc(
	struct port *port, const struct virtq *q, uint16_t index, struct vring_desc *desc)
{
	const volatile struct vring_desc *p =
		port_mem(port, gpa(q->desc.v + index * sizeof(*desc)), sizeof(*desc));

	if (!p)
		return false;
	desc->addr = p->addr;
	desc->len = p->len;
	desc->flags = p->flags;
	desc->next = p->next;
	return true;
}

static int follow(struct port *port, const struct virtq *q, struct virtq_chain *c)
{
	uint16_t index = c->head;
	struct vring_desc d;

	c->n = c->n_read = 0;
	c->read_len = c->write_len = 0;
	do {
		bool writable;

		/* A chain longer than the queue is a loop. */
		if (index >= q->size || c->n == q->size || !load_desc(port, q, index, &d))
			return -EPROTO;
		/* The device does not offer indirect tables. */
		if (d.flags & ~(VRING_DESC_F_NEXT | VRING_DESC_F_WRITE))
			return -EPROTO;
		writable = d.flags & VRING_DESC_F_WRITE;
		if (!writable && c->n_read != c->n)
			return -EPROTO;
		c->seg[c->n].at = gpa(d.addr);
		c->seg[c->n].len = d.len;
		c->n++;
		if (writable) {
			c->write_len += d.len;
		} else {
			c->read_len += d.len;
			c->n_read++;
		}
		index = d.next;
	} while (d.flags & VRING_DESC_F_NEXT);
	return 1;
}

int virtq_pop(struct port *port, struct virtq *q, struct virtq_chain *chain)
{
	uint16_t idx;
	int ret;

	if (!q->ready)
		return 0;
	if (!load16(port, gpa(q->avail.v + offsetof(struct vring_avail, idx)), &idx))
		return -EPROTO;
	if (idx == q->last_avail)
		return 0;
	if ((uint16_t)(idx - q->last_avail) > q->size ||
		!load16(port,
			gpa(q->avail.v + offsetof(struct vring_avail, ring) +
				(q->last_avail & (q->size - 1)) * sizeof(uint16_t)),
			&chain->head))
		return -EPROTO;
	ret = follow(port, q, chain);
	if (ret > 0)
		q->last_avail++;
	return ret;
}

int virtq_push(
	struct port *port, struct virtq *q, const struct virtq_chain *chain, uint32_t written)
{
	unsigned slot = q->used_idx & (q->size - 1u);
	struct vring_used_elem *elem = port_mem(port,
		gpa(q->used.v + offsetof(struct vring_used, ring) + slot * sizeof(*elem)),
		sizeof(*elem));
	uint16_t *idx =
		port_mem(port, gpa(q->used.v + offsetof(struct vring_used, idx)), sizeof(*idx));

	if (!elem || !idx)
		return -EPROTO;
	*elem = (struct vring_used_elem){ .id = chain->head, .len = written };
	__atomic_store_n(idx, ++q->used_idx, __ATOMIC_RELEASE);
	return 0;
}

bool virtq_wants_interrupt(struct port *port, const struct virtq *q)
{
	uint16_t flags;

	/* The driver clears the flag, then reads used->idx. Here it is the other way round: the
	 * store to used->idx must be visible before the flag is read. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return load16(port, gpa(q->avail.v + offsetof(struct vring_avail, flags)), &flags) &&
	       !(flags & VRING_AVAIL_F_NO_INTERRUPT);
}

/* Goes on to the next segment while nothing is left of the current one. */
static void skip_segments(struct virtq_cursor *c)
{
	while (c->seg < c->end && c->at >= c->chain->seg[c->seg].len)
		c->at -= c->chain->seg[c->seg++].len;
}

struct virtq_cursor virtq_at(const struct virtq_chain *chain, bool writable, uint64_t offset)
{
	struct virtq_cursor c = { .chain = chain,
		.seg = writable ? chain->n_read : 0,
		.end = writable ? chain->n : chain->n_read,
		.at = offset };

	skip_segments(&c);
	return c;
}

void *virtq_next(struct port *port, struct virtq_cursor *c, uint64_t *len)
{
	uint64_t left;
	gpa_t at;

	if (c->seg == c->end)
		return NULL;
	at = gpa(c->chain->seg[c->seg].at.v + c->at);
	left = c->chain->seg[c->seg].len - c->at;
	*len = *len < left ? *len : left;
	c->at += *len;
	skip_segments(c);
	return port_mem(port, at, *len);
}

int virtq_read(struct port *port, const struct virtq_chain *chain, uint64_t offset, void *buf,
	uint64_t len)
{
	struct virtq_cursor c = virtq_at(chain, false, offset);

	while (len) {
		uint64_t n = len;
		const void *p = virtq_next(port, &c, &n);

		if (!p)
			return -EFAULT;
		memcpy(buf, p, n);
		buf = (char *)buf + n;
		len -= n;
	}
	return 0;
}

int virtq_write(struct port *port, const struct virtq_chain *chain, uint64_t offset,
	const void *buf, uint64_t len)
{
	struct virtq_cursor c = virtq_at(chain, true, offset);

	while (len) {
		uint64_t n = len;
		void *p = virtq_next(port, &c, &n);

		if (!p)
			return -EFAULT;
		memcpy(p, buf, n);
		buf = (const char *)buf + n;
		len -= n;
	}
	return 0;
}
