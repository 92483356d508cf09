// SPDX-License-Identifier: Apache-2.0
#include "vmm/devices/msix.h"

#include <linux/pci_regs.h>
#include <string.h>

void msix_init(struct msix *m)
{
	*m = (struct msix){ 0 };
	for (unsigned i = 0; i < MSIX_VECTORS; i++)
		m->table[i * MSIX_ENTRY + PCI_MSIX_ENTRY_VECTOR_CTRL] = PCI_MSIX_ENTRY_CTRL_MASKBIT;
}

void msix_add_capability(struct pci_function *fn, uint32_t table, uint32_t pending)
{
	unsigned at = pci_add_capability(fn, PCI_CAP_ID_MSIX, PCI_CAP_MSIX_SIZEOF);

	pci_set(fn, at + PCI_MSIX_FLAGS, MSIX_VECTORS - 1, 2);
	pci_set(fn, at + PCI_MSIX_TABLE, table, 4);
	pci_set(fn, at + PCI_MSIX_PBA, pending, 4);
	fn->writable[at + PCI_MSIX_FLAGS + 1] =
		(PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL) >> 8;
}

static void fire(struct msix *m, struct port *port, unsigned vector)
{
	uint32_t entry[MSIX_ENTRY / 4];

	memcpy(entry, m->table + vector * MSIX_ENTRY, sizeof(entry));
	if ((m->control & PCI_MSIX_FLAGS_MASKALL) || (entry[3] & PCI_MSIX_ENTRY_CTRL_MASKBIT)) {
		m->pending |= 1u << vector;
		return;
	}
	m->pending &= ~(1u << vector);
	port_msi(port, (uint64_t)entry[1] << 32 | entry[0], entry[2]);
}

void msix_signal(struct msix *m, struct port *port, uint16_t vector)
{
	if (vector < MSIX_VECTORS && (m->control & PCI_MSIX_FLAGS_ENABLE))
		fire(m, port, vector);
}

/* Sends the pending messages whose vectors are no longer masked. */
static void retry(struct msix *m, struct port *port)
{
	for (unsigned i = 0; i < MSIX_VECTORS; i++)
		if (m->pending & 1u << i)
			msix_signal(m, port, (uint16_t)i);
}

void msix_set_control(struct msix *m, struct port *port, uint16_t control)
{
	m->control = control;
	retry(m, port);
}

void msix_access(
	struct msix *m, struct port *port, uint64_t at, bool write, void *data, unsigned size)
{
	if (at + size > sizeof(m->table))
		return;
	if (!write) {
		memcpy(data, m->table + at, size);
	} else {
		memcpy(m->table + at, data, size);
		retry(m, port);
	}
}
