/* SPDX-License-Identifier: Apache-2.0 */
/* The virtio devices. Each is made unplugged, for pci_bus_add(). */
#ifndef RAMET_VMM_DEVICES_VIRTIO_DEVICES_H
#define RAMET_VMM_DEVICES_VIRTIO_DEVICES_H

#include "vmm/devices/virtio.h"

struct disk;

/* 0 or -ENOMEM. */
int virtio_rng_new(struct port *port, struct pci_function **out);
int virtio_console_new(struct port *port, struct pci_function **out);
/* Owns the disk, once made. */
int virtio_blk_new(struct port *port, struct disk *disk, struct pci_function **out);

/* Input from outside, from any thread: returns how many bytes the guest had room for. */
size_t virtio_console_input(struct pci_function *fn, const char *buf, size_t len);

#endif
