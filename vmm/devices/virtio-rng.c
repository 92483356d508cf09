/* SPDX-License-Identifier: Apache-2.0 */
/* Entropy: VIRTIO 1.2, 5.4. getrandom(2) fills each request; of a long one, only the first
 * REQUEST_MAX bytes. */
#include <errno.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <sys/random.h>

#include "vmm/devices/virtio-devices.h"

#define REQUEST_MAX 256u /* getrandom() returns up to this much without interruption */

static int64_t rng_request(struct virtio *v, const struct virtq_chain *chain)
{
	uint64_t len = chain->write_len < REQUEST_MAX ? chain->write_len : REQUEST_MAX;
	uint8_t bytes[REQUEST_MAX];

	if (chain->n_read || getrandom(bytes, len, 0) != (ssize_t)len)
		return -EPROTO;
	return virtq_write(v->fn.port, chain, 0, bytes, len) ? -EPROTO : (int64_t)len;
}

static int rng_kick(struct virtio *v, unsigned queue)
{
	return virtio_serve(v, queue, rng_request);
}

static int rng_clone(const struct virtio *v, struct port *port, struct virtio **out)
{
	struct pci_function *fn;
	int ret = virtio_rng_new(port, &fn);

	if (!ret)
		*out = virtio_of(fn);
	return ret;
}

static void rng_free(struct virtio *v)
{
	virtio_destroy(v);
	free(v);
}

static const struct virtio_ops rng_ops = {
	.id = VIRTIO_ID_RNG,
	.class = 0xff0000, /* a device of no defined class */
	.queues = 1,
	.kick = rng_kick,
	.clone = rng_clone,
	.free = rng_free,
};

int virtio_rng_new(struct port *port, struct pci_function **out)
{
	struct virtio *v = calloc(1, sizeof(*v));

	if (!v)
		return -ENOMEM;
	virtio_init(v, &rng_ops, port, 0, NULL, 0);
	*out = &v->fn;
	return 0;
}
