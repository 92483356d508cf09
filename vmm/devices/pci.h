/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One PCI bus, without bridges: configuration mechanism #1, a host bridge as function 00.0, and
 * functions with one 32-bit memory BAR each. BARs have their addresses at the start, as firmware
 * would set them. All interrupts are message-signalled. Sources: PCI Local Bus Specification 3.0,
 * 3.2.2.3.2 (mechanism #1), 6.1 (header), 6.2.5 (BARs), 6.7 (capabilities).
 *
 * The bus is the device (vmm/devices/device.h). Its functions are cloned and freed with it.
 */
#ifndef RAMET_VMM_DEVICES_PCI_H
#define RAMET_VMM_DEVICES_PCI_H

#include <pthread.h>

#include "vmm/devices/device.h"

#define PCI_FUNCTIONS_MAX 16u /* including the host bridge; one per slot */
#define PCI_CONFIG_LEN	  256u

struct pci_function;

struct pci_function_ops {
	/* As in struct device_ops. bar: an access to BAR 0. config: an access to the configuration
	 * space, called after a write and before a read. All except free are optional. */
	void (*bar)(struct pci_function *fn, struct vcpu *vcpu, uint64_t offset, bool write,
		void *data, unsigned size);
	void (*config)(struct pci_function *fn, struct vcpu *vcpu, unsigned offset, bool write,
		unsigned size);
	int (*clone)(const struct pci_function *fn, struct port *port, struct pci_function **out);
	void (*quiesce)(struct pci_function *fn);
	void (*unquiesce)(struct pci_function *fn);
	void (*free)(struct pci_function *fn);
};

struct pci_function {
	const struct pci_function_ops *ops;
	struct port *port;
	uint8_t config[PCI_CONFIG_LEN];
	uint8_t writable[PCI_CONFIG_LEN]; /* bits that the guest may change */
	uint32_t bar_len;		  /* a power of two, or 0: no BAR */
	unsigned cap_end;		  /* config offset for the next capability */
	unsigned last_cap;		  /* config offset of the last capability, or 0 */
};

/* Access the configuration space from the function's code. Values are little-endian. */
uint32_t pci_get(const struct pci_function *fn, unsigned offset, unsigned size);
void pci_set(struct pci_function *fn, unsigned offset, uint32_t value, unsigned size);

/* Fills in the header. class: the 24-bit class code. bar_len: as above. */
void pci_function_init(struct pci_function *fn, const struct pci_function_ops *ops,
	struct port *port, uint16_t vendor, uint16_t device, uint32_t class, uint32_t bar_len);
/* Appends a capability of len bytes with its id and link; the rest is zero. Returns its offset. */
unsigned pci_add_capability(struct pci_function *fn, uint8_t id, unsigned len);

/* 0 or -ENOMEM. */
int pci_bus_new(struct port *port, struct device **out);
/* Plugs a function in, before the VM runs. The bus then owns it. 0 or -ENOSPC. */
int pci_bus_add(struct device *bus, struct pci_function *fn);
/* Returns the function in a slot, or NULL. */
struct pci_function *pci_bus_function(struct device *bus, unsigned slot);

#endif
