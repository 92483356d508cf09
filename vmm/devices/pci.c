/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <linux/pci_regs.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/lock.h"
#include "vmm/devices/pci.h"
#include "vmm/base/board.h"

#define CONFIG_ADDRESS 0xcf8u
#define CONFIG_LEN     8u
#define ADDRESS_ENABLE (1u << 31)
#define BAR_SPACING    0x10000u /* size of each slot's range for its BAR */

enum { WIN_CONFIG, WIN_MEMORY };

enum {
	VENDOR_REDHAT = 0x1b36,
	DEVICE_HOST_BRIDGE = 0x0008,
	CLASS_HOST_BRIDGE = 0x060000,
};

struct pci_bus {
	struct device dev;
	struct lock lock; /* guards `address` and the functions' configuration spaces */
	uint32_t address;
	struct pci_function *fn[PCI_FUNCTIONS_MAX];
};

static struct pci_bus *bus_of(struct device *dev)
{
	return (struct pci_bus *)dev;
}

uint32_t pci_get(const struct pci_function *fn, unsigned offset, unsigned size)
{
	uint32_t value = 0;

	memcpy(&value, fn->config + offset, size);
	return value;
}

void pci_set(struct pci_function *fn, unsigned offset, uint32_t value, unsigned size)
{
	memcpy(fn->config + offset, &value, size);
}

void pci_function_init(struct pci_function *fn, const struct pci_function_ops *ops,
	struct port *port, uint16_t vendor, uint16_t device, uint32_t class, uint32_t bar_len)
{
	*fn = (struct pci_function){
		.ops = ops, .port = port, .bar_len = bar_len, .cap_end = 0x40
	};
	pci_set(fn, PCI_VENDOR_ID, vendor, 2);
	pci_set(fn, PCI_DEVICE_ID, device, 2);
	pci_set(fn, PCI_CLASS_PROG, class, 3);
	fn->writable[PCI_COMMAND] = PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
	fn->writable[PCI_COMMAND + 1] = PCI_COMMAND_INTX_DISABLE >> 8;
	fn->writable[PCI_CACHE_LINE_SIZE] = fn->writable[PCI_INTERRUPT_LINE] = 0xff;
	if (bar_len) {
		uint32_t mask = ~(bar_len - 1); /* the read-only bits show the length */

		memcpy(fn->writable + PCI_BASE_ADDRESS_0, &mask, sizeof(mask));
	}
}

unsigned pci_add_capability(struct pci_function *fn, uint8_t id, unsigned len)
{
	unsigned at = fn->cap_end;

	pci_set(fn, fn->last_cap ? fn->last_cap + PCI_CAP_LIST_NEXT : PCI_CAPABILITY_LIST, at, 1);
	pci_set(fn, at + PCI_CAP_LIST_ID, id, 1);
	pci_set(fn, PCI_STATUS, pci_get(fn, PCI_STATUS, 2) | PCI_STATUS_CAP_LIST, 2);
	fn->last_cap = at;
	fn->cap_end = (at + len + 3) & ~3u;
	return at;
}

static void config_access(struct pci_function *fn, struct vcpu *vcpu, unsigned offset, bool write,
	uint8_t *data, unsigned size)
{
	if (!write && fn->ops->config)
		fn->ops->config(fn, vcpu, offset, false, size);
	for (unsigned i = 0; i < size; i++) {
		uint8_t *byte = &fn->config[offset + i], mask = fn->writable[offset + i];

		if (write)
			*byte = (uint8_t)((*byte & ~mask) | (data[i] & mask));
		else
			data[i] = *byte;
	}
	if (write && fn->ops->config)
		fn->ops->config(fn, vcpu, offset, true, size);
}

/* Ports 0xcf8 to 0xcff: the address of a register, and the data of that register. */
static void config_io(struct pci_bus *bus, struct vcpu *vcpu, unsigned port, bool write, void *data,
	unsigned size)
{
	unsigned offset = (bus->address & 0xfc) | (port & 3);
	unsigned slot = bus->address >> 11 & 0x1f;
	bool here = (bus->address & ADDRESS_ENABLE) && !(bus->address >> 16 & 0xff) &&
		    !(bus->address >> 8 & 7) && slot < PCI_FUNCTIONS_MAX && bus->fn[slot];

	if (!write)
		memset(data, 0xff, size);
	if (port == 0 && size == 4) {
		if (write)
			memcpy(&bus->address, data, size);
		else
			memcpy(data, &bus->address, size);
	} else if (port >= 4 && here && (port & 3) + size <= 4) {
		config_access(bus->fn[slot], vcpu, offset, write, data, size);
	}
}

/* Returns the function whose BAR contains [addr, addr + size), and the offset in the BAR. */
static struct pci_function *decode(
	struct pci_bus *bus, uint64_t addr, unsigned size, uint64_t *offset)
{
	for (unsigned i = 0; i < PCI_FUNCTIONS_MAX; i++) {
		struct pci_function *fn = bus->fn[i];

		if (!fn || !fn->bar_len || !(fn->config[PCI_COMMAND] & PCI_COMMAND_MEMORY))
			continue;
		*offset = addr - pci_get(fn, PCI_BASE_ADDRESS_0, 4);
		if (*offset < fn->bar_len && size <= fn->bar_len - *offset)
			return fn;
	}
	return NULL;
}

static void bus_io(struct device *dev, struct vcpu *vcpu, unsigned win, uint64_t addr, bool write,
	void *data, unsigned size)
{
	struct pci_bus *bus = bus_of(dev);
	struct pci_function *fn;
	uint64_t offset;

	lock_take(&bus->lock);
	if (win == WIN_CONFIG) {
		config_io(bus, vcpu, (unsigned)addr, write, data, size);
		lock_release(&bus->lock);
		return;
	}
	fn = decode(bus, PCI_MMIO_BASE + addr, size, &offset);
	lock_release(&bus->lock);
	if (fn)
		fn->ops->bar(fn, vcpu, offset, write, data, size);
	else if (!write)
		memset(data, 0xff, size);
}

#define FOR_EACH(bus, op)                                  \
	for (unsigned i = 0; i < PCI_FUNCTIONS_MAX; i++)   \
		if ((bus)->fn[i] && (bus)->fn[i]->ops->op) \
	(bus)->fn[i]->ops->op((bus)->fn[i])

static void bus_quiesce(struct device *dev)
{
	FOR_EACH(bus_of(dev), quiesce);
}

static void bus_unquiesce(struct device *dev)
{
	FOR_EACH(bus_of(dev), unquiesce);
}

static void bus_free(struct device *dev)
{
	FOR_EACH(bus_of(dev), free);
	lock_destroy(&bus_of(dev)->lock);
	free(dev);
}

static const struct device_ops bus_ops;

static int bus_alloc(struct port *port, struct pci_bus **out)
{
	struct pci_bus *bus = calloc(1, sizeof(*bus));

	if (!bus)
		return -ENOMEM;
	bus->dev.ops = &bus_ops;
	bus->dev.port = port;
	bus->dev.win[WIN_CONFIG] = (struct device_window){ SPACE_PIO, CONFIG_ADDRESS, CONFIG_LEN };
	bus->dev.win[WIN_MEMORY] =
		(struct device_window){ SPACE_MMIO, PCI_MMIO_BASE, PCI_MMIO_LEN };
	lock_init(&bus->lock, LOCK_PCI);
	*out = bus;
	return 0;
}

static int bus_clone(const struct device *dev, struct port *port, struct device **out)
{
	const struct pci_bus *from = (const struct pci_bus *)dev;
	struct pci_bus *to;
	int ret = bus_alloc(port, &to);

	if (ret)
		return ret;
	to->address = from->address;
	for (unsigned i = 0; !ret && i < PCI_FUNCTIONS_MAX; i++)
		if (from->fn[i])
			ret = from->fn[i]->ops->clone(from->fn[i], port, &to->fn[i]);
	if (ret) {
		bus_free(&to->dev);
		return ret;
	}
	*out = &to->dev;
	return 0;
}

static const struct device_ops bus_ops = {
	.name = "pci",
	.io = bus_io,
	.quiesce = bus_quiesce,
	.unquiesce = bus_unquiesce,
	.clone = bus_clone,
	.free = bus_free,
};

/* The host bridge has only its header. */
static void bridge_free(struct pci_function *fn)
{
	free(fn);
}

static int bridge_clone(const struct pci_function *fn, struct port *port, struct pci_function **out)
{
	struct pci_function *to = malloc(sizeof(*to));

	if (!to)
		return -ENOMEM;
	*to = *fn;
	to->port = port;
	*out = to;
	return 0;
}

static const struct pci_function_ops bridge_ops = { .clone = bridge_clone, .free = bridge_free };

int pci_bus_add(struct device *dev, struct pci_function *fn)
{
	struct pci_bus *bus = bus_of(dev);

	for (unsigned i = 0; i < PCI_FUNCTIONS_MAX; i++) {
		if (bus->fn[i])
			continue;
		bus->fn[i] = fn;
		if (fn->bar_len)
			pci_set(fn, PCI_BASE_ADDRESS_0, PCI_MMIO_BASE + i * BAR_SPACING, 4);
		return 0;
	}
	return -ENOSPC;
}

struct pci_function *pci_bus_function(struct device *dev, unsigned slot)
{
	return slot < PCI_FUNCTIONS_MAX ? bus_of(dev)->fn[slot] : NULL;
}

int pci_bus_new(struct port *port, struct device **out)
{
	struct pci_function *bridge = malloc(sizeof(*bridge));
	struct pci_bus *bus;

	if (!bridge)
		return -ENOMEM;
	if (bus_alloc(port, &bus)) {
		free(bridge);
		return -ENOMEM;
	}
	pci_function_init(
		bridge, &bridge_ops, port, VENDOR_REDHAT, DEVICE_HOST_BRIDGE, CLASS_HOST_BRIDGE, 0);
	pci_bus_add(&bus->dev, bridge);
	*out = &bus->dev;
	return 0;
}
