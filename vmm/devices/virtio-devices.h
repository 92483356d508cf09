/* SPDX-License-Identifier: Apache-2.0 */
/* The virtio devices. The caller plugs a new device in with pci_bus_add(). */
#ifndef RAMET_VMM_DEVICES_VIRTIO_DEVICES_H
#define RAMET_VMM_DEVICES_VIRTIO_DEVICES_H

#include "vmm/devices/virtio.h"

struct disk;

/* 0 or -ENOMEM. */
int virtio_rng_new(struct port *port, struct pci_function **out);
int virtio_console_new(struct port *port, struct pci_function **out);
/* On success the device owns the disk. */
int virtio_blk_new(struct port *port, struct disk *disk, struct pci_function **out);

/* Passes input to the guest. Any thread may call it. Returns the number of bytes that the guest had
 * room for. */
size_t virtio_console_input(struct pci_function *fn, const char *buf, size_t len);

#endif
