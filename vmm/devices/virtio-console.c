/* SPDX-License-Identifier: Apache-2.0 */
/* Console: VIRTIO 1.2, 5.3, one port. Its output goes to the VM's console, like the serial port's.
 */
#include <errno.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>

#include "vmm/devices/virtio-devices.h"

enum { QUEUE_RECEIVE, QUEUE_TRANSMIT, QUEUES };

#define TRANSMIT_MAX 65536u /* bytes of one request; the rest of a longer request is dropped */

static int64_t console_transmit(struct virtio *v, const struct virtq_chain *chain)
{
	uint64_t len = chain->read_len < TRANSMIT_MAX ? chain->read_len : TRANSMIT_MAX, n;
	struct virtq_cursor c = virtq_at(chain, false, 0);

	for (uint64_t at = 0; at < len; at += n) {
		const void *p;

		n = len - at;
		p = virtq_next(v->fn.port, &c, &n);
		if (!p)
			return -EPROTO;
		port_console(v->fn.port, p, n);
	}
	return 0;
}

static int console_kick(struct virtio *v, unsigned queue)
{
	if (queue == QUEUE_TRANSMIT)
		return virtio_serve(v, queue, console_transmit);
	/* The guest has added receive buffers: they stay in the queue until there is input. */
	port_input_room(v->fn.port);
	return 0;
}

/* Fills one waiting buffer. Returns the number of bytes taken; 0: no buffer waits; or -EPROTO. */
static int64_t receive(struct virtio *v, const char *buf, size_t len)
{
	struct virtq *q = &v->s.queue[QUEUE_RECEIVE];
	struct virtq_chain chain;
	uint64_t n;
	int ret = virtq_pop(v->fn.port, q, &chain);

	if (ret <= 0)
		return ret;
	n = len < chain.write_len ? len : chain.write_len;
	if (!n || virtq_write(v->fn.port, &chain, 0, buf, n) ||
		virtq_push(v->fn.port, q, &chain, (uint32_t)n))
		return -EPROTO;
	return (int64_t)n;
}

size_t virtio_console_input(struct pci_function *fn, const char *buf, size_t len)
{
	struct virtio *v = virtio_of(fn);
	size_t done = 0;
	int64_t n = 1;

	lock_take(&v->lock);
	while (done < len && n > 0 && !v->quiet && virtio_running(v)) {
		n = receive(v, buf + done, len - done);
		if (n > 0)
			done += (size_t)n;
		if (n < 0)
			virtio_broken(v);
	}
	if (done)
		virtio_interrupt(v, QUEUE_RECEIVE);
	lock_release(&v->lock);
	return done;
}

static int console_clone(const struct virtio *v, struct port *port, struct virtio **out)
{
	struct pci_function *fn;
	int ret = virtio_console_new(port, &fn);

	if (!ret)
		*out = virtio_of(fn);
	return ret;
}

static void console_free(struct virtio *v)
{
	virtio_destroy(v);
	free(v);
}

static const struct virtio_ops console_ops = {
	.id = VIRTIO_ID_CONSOLE,
	.class = 0x078000, /* another communication controller */
	.queues = QUEUES,
	.kick = console_kick,
	.clone = console_clone,
	.free = console_free,
};

int virtio_console_new(struct port *port, struct pci_function **out)
{
	struct virtio *v = calloc(1, sizeof(*v));

	if (!v)
		return -ENOMEM;
	virtio_init(v, &console_ops, port, 0, NULL, 0);
	*out = &v->fn;
	return 0;
}
