/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Virtio devices as PCI functions: Virtual I/O Device (VIRTIO) Version 1.2, modern interface only,
 * interrupts by MSI-X only. Requests are served where the driver notifies, on its vCPU, under the
 * device's lock: when a VM has stopped, nothing is under way, and a clone needs no thread, no file
 * descriptor and no routing entry of its own.
 */
#ifndef RAMET_VMM_DEVICES_VIRTIO_H
#define RAMET_VMM_DEVICES_VIRTIO_H

#include "vmm/base/lock.h"
#include "vmm/devices/msix.h"
#include "vmm/devices/pci.h"
#include "vmm/devices/virtq.h"

#define VIRTIO_QUEUES_MAX 2u
#define VIRTIO_CONFIG_MAX 64u
_Static_assert(MSIX_VECTORS == VIRTIO_QUEUES_MAX + 1u, "and one for configuration changes");

struct virtio;

struct virtio_ops {
	uint16_t id;	/* virtio device id, 5 */
	uint32_t class; /* PCI class code */
	unsigned queues;
	/* The driver has put something into a queue. Under v->lock. 0, or -EPROTO: broken. */
	int (*kick)(struct virtio *v, unsigned queue);
	/* Makes the clone with virtio_init(); what is common is copied by the caller. */
	int (*clone)(const struct virtio *v, struct port *port, struct virtio **out);
	void (*free)(struct virtio *v); /* ends with virtio_destroy() and free() */
};

/* What the driver has set up, copied as it is to a clone. */
struct virtio_state {
	uint64_t driver_features;
	uint32_t device_select, driver_select;
	uint16_t queue_select, config_vector;
	uint8_t status, isr;
	struct virtq queue[VIRTIO_QUEUES_MAX];
	struct msix msix;
};

struct virtio {
	struct pci_function fn;
	const struct virtio_ops *ops;
	uint64_t features;		   /* offered */
	uint8_t config[VIRTIO_CONFIG_MAX]; /* device-specific, read-only */
	unsigned config_len, cfg_cap;	   /* cfg_cap: offset of the configuration access window */
	struct lock lock;		   /* all below */
	struct virtio_state s;
	bool quiet; /* nothing may come from outside now */
};

/* features: the device's own, VERSION_1 is added. config[len] is copied. */
void virtio_init(struct virtio *v, const struct virtio_ops *ops, struct port *port,
	uint64_t features, const void *config, unsigned len);
void virtio_destroy(struct virtio *v);
/* The virtio device of a PCI function. */
struct virtio *virtio_of(struct pci_function *fn);

/* For kick() and input from outside, under v->lock. */

/* Serves each chain that waits with request(), which returns the bytes it wrote or -EPROTO; then
 * interrupts the driver if it wants that. 0 or -EPROTO. */
int virtio_serve(struct virtio *v, unsigned queue,
	int64_t (*request)(struct virtio *v, const struct virtq_chain *chain));
/* Interrupts the driver for a queue, if it wants that. */
void virtio_interrupt(struct virtio *v, unsigned queue);
/* The driver broke the rules: the device does nothing more until it is reset. */
void virtio_broken(struct virtio *v);
bool virtio_running(const struct virtio *v);

#endif
