/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Virtio devices as PCI functions: Virtual I/O Device (VIRTIO) Version 1.2, modern interface only,
 * interrupts by MSI-X only. When the driver notifies the device, the thread of that vCPU serves the
 * requests, under the device's lock. So no request is under way when a VM has stopped, and a clone
 * needs no thread, no file descriptor and no routing entry of its own.
 */
#ifndef RAMET_VMM_DEVICES_VIRTIO_H
#define RAMET_VMM_DEVICES_VIRTIO_H

#include "vmm/base/lock.h"
#include "vmm/devices/msix.h"
#include "vmm/devices/pci.h"
#include "vmm/devices/virtq.h"

#define VIRTIO_QUEUES_MAX 2u
#define VIRTIO_CONFIG_MAX 64u
_Static_assert(MSIX_VECTORS == VIRTIO_QUEUES_MAX + 1u,
	"one vector for each queue, and one for configuration changes");

struct virtio;

struct virtio_ops {
	uint16_t id;	/* virtio device id (section 5) */
	uint32_t class; /* PCI class code */
	unsigned queues;
	/* The driver has added chains to a queue. v->lock is held. 0, or -EPROTO: the driver broke
	 * the rules. */
	int (*kick)(struct virtio *v, unsigned queue);
	/* Makes the clone with virtio_init(). The caller then copies the state that all virtio
	 * devices have. */
	int (*clone)(const struct virtio *v, struct port *port, struct virtio **out);
	void (*free)(struct virtio *v); /* ends with virtio_destroy() and free() */
};

/* The state that the driver has set up. A clone gets a copy of it. */
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
	uint64_t features;		   /* the features that the device offers */
	uint8_t config[VIRTIO_CONFIG_MAX]; /* device-specific, read-only */
	unsigned config_len, cfg_cap;	   /* cfg_cap: offset of the configuration access window */
	struct lock lock;		   /* guards all below */
	struct virtio_state s;
	bool quiet; /* the device must not take input from outside */
};

/* features: the device's own ones; virtio_init() adds VERSION_1. config[len] is copied. */
void virtio_init(struct virtio *v, const struct virtio_ops *ops, struct port *port,
	uint64_t features, const void *config, unsigned len);
void virtio_destroy(struct virtio *v);
/* The virtio device of a PCI function. */
struct virtio *virtio_of(struct pci_function *fn);

/* ---- for kick() and input from outside; the caller holds v->lock ---- */

/* Serves each waiting chain by request(), which returns the number of bytes that it wrote, or
 * -EPROTO. Then interrupts the driver if the driver wants that. 0 or -EPROTO. */
int virtio_serve(struct virtio *v, unsigned queue,
	int64_t (*request)(struct virtio *v, const struct virtq_chain *chain));
/* Interrupts the driver for a queue, if the driver wants that. */
void virtio_interrupt(struct virtio *v, unsigned queue);
/* Called when the driver broke the rules: the device serves no request until it is reset. */
void virtio_broken(struct virtio *v);
bool virtio_running(const struct virtio *v);

#endif
