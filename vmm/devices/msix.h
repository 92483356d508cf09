/* SPDX-License-Identifier: Apache-2.0 */
/* MSI-X of a PCI function: PCI Local Bus Specification 3.0, 6.8.2. The caller holds the lock of the
 * device that owns the struct msix. */
#ifndef RAMET_VMM_DEVICES_MSIX_H
#define RAMET_VMM_DEVICES_MSIX_H

#include "vmm/devices/pci.h"

#define MSIX_VECTORS 3u
#define MSIX_ENTRY   16u /* bytes */

struct msix {
	uint16_t control;
	uint32_t pending; /* one bit for each vector */
	uint8_t table[MSIX_VECTORS * MSIX_ENTRY];
};

/* As after power-on: all vectors are masked. */
void msix_init(struct msix *m);
/* Adds the capability, whose table and pending bits are at these offsets of BAR 0. */
void msix_add_capability(struct pci_function *fn, uint32_t table, uint32_t pending);
/* Sends the message of a vector, if the driver has enabled MSI-X and the vector exists. If the
 * vector is masked, the message stays pending. */
void msix_signal(struct msix *m, struct port *port, uint16_t vector);
/* The driver has written the control word of the capability. */
void msix_set_control(struct msix *m, struct port *port, uint16_t control);
/* The driver reads or writes the table. */
void msix_access(
	struct msix *m, struct port *port, uint64_t at, bool write, void *data, unsigned size);

#endif
