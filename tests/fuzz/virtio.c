/* SPDX-License-Identifier: Apache-2.0 */
#include <linux/pci_regs.h>
#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>
#include <linux/virtio_ring.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/virtio.h"

#define SLOT	 1u
#define QUEUE(q) (0x1000u + 0x4000u * (q)) /* descriptors, then two rings, a page each */
#define AVAIL(q) (QUEUE(q) + 0x1000u)
#define USED(q)	 (QUEUE(q) + 0x2000u)

/* Offsets into the BAR: vmm/devices/virtio.c has a page for each structure, in this order. */
enum { COMMON = 0, NOTIFY = 0x3000, MSIX = 0x4000 };

struct machine {
	struct port port;
	uint8_t *ram;
	size_t console;
	unsigned racer_in; /* number of memory accesses until another processor changes a byte */
	uint16_t racer_at;
	uint8_t racer_value;
};

struct program {
	const uint8_t *data;
	size_t size;
	struct machine *vm;
	struct device *bus;
	uint16_t posted[VIRTIO_QUEUES_MAX];
};

static struct machine *machine_of(struct port *port)
{
	return (struct machine *)port;
}

static void *mem(struct port *port, gpa_t at, uint64_t len)
{
	struct machine *vm = machine_of(port);

	if (vm->racer_in && !--vm->racer_in)
		vm->ram[vm->racer_at] = vm->racer_value;
	return at.v <= FUZZ_RAM && len <= FUZZ_RAM - at.v ? vm->ram + at.v : NULL;
}

static int msi(struct port *port, uint64_t address, uint32_t data)
{
	return 0;
}

static void console(struct port *port, const char *buf, size_t len)
{
	/* All of it must be readable. */
	for (size_t i = 0; i < len; i++)
		machine_of(port)->console += (unsigned char)buf[i] != 0;
}

static const struct port_ops port_ops = { .mem = mem, .msi = msi, .console = console };

struct port *fuzz_port(void)
{
	static struct machine vm = { .port = { &port_ops } };

	if (!vm.ram)
		vm.ram = malloc(FUZZ_RAM); /* malloc, so that a sanitizer knows its end */
	if (!vm.ram)
		abort();
	memset(vm.ram, 0, FUZZ_RAM);
	vm.racer_in = 0;
	return &vm.port;
}

/* Operands */

static uint64_t take(struct program *p, unsigned bytes)
{
	uint64_t value = 0;

	for (unsigned i = 0; i < bytes && p->size; i++, p->size--)
		value |= (uint64_t)*p->data++ << (8 * i);
	return value;
}

static unsigned take_width(struct program *p, unsigned most)
{
	unsigned width = (unsigned)take(p, 1) % most + 1;

	return width;
}

/* Accesses */

static void config(struct program *p, uint32_t reg, bool write, void *data, unsigned width)
{
	uint32_t address = 1u << 31 | SLOT << 11 | (reg & 0xfc);

	p->bus->ops->io(p->bus, NULL, 0, 0, true, &address, 4);
	p->bus->ops->io(p->bus, NULL, 0, 4 + (reg & 3), write, data, width);
}

static struct pci_function *function(struct program *p)
{
	return pci_bus_function(p->bus, SLOT);
}

/* The address that the driver has given the BAR. The bus checks whether it is in its window. */
static void bar(struct program *p, uint64_t offset, bool write, void *data, unsigned width)
{
	uint64_t at = pci_get(function(p), PCI_BASE_ADDRESS_0, 4) & ~15u;

	p->bus->ops->io(p->bus, NULL, 1, at + offset - 0xc0000000u, write, data, width);
}

static void bar_set(struct program *p, uint64_t offset, uint64_t value, unsigned width)
{
	bar(p, offset, true, &value, width);
}

static void write_ram(struct program *p, uint32_t at, const void *data, size_t len)
{
	if (at < FUZZ_RAM)
		memcpy(p->vm->ram + at, data, len < FUZZ_RAM - at ? len : FUZZ_RAM - at);
}

static unsigned find_msix(struct program *p)
{
	const struct pci_function *fn = function(p);
	unsigned at = fn->config[PCI_CAPABILITY_LIST];

	while (fn->config[at] != PCI_CAP_ID_MSIX)
		at = fn->config[at + PCI_CAP_LIST_NEXT];
	return at;
}

/* Operations */

static void bring_up(struct program *p)
{
	uint16_t vector = (uint16_t)take(p, 1), command = PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
	uint16_t size = (uint16_t)take(p, 1), msix = PCI_MSIX_FLAGS_ENABLE;

	config(p, PCI_COMMAND, true, &command, 2);
	config(p, find_msix(p) + PCI_MSIX_FLAGS, true, &msix, 2);
	bar_set(p, COMMON + VIRTIO_PCI_COMMON_STATUS, 0, 1);
	bar_set(p, COMMON + VIRTIO_PCI_COMMON_GFSELECT, 1, 4);
	bar_set(p, COMMON + VIRTIO_PCI_COMMON_GF, 1, 4); /* VERSION_1 */
	bar_set(p, COMMON + VIRTIO_PCI_COMMON_STATUS,
		VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK,
		1);
	for (unsigned q = 0; q < VIRTIO_QUEUES_MAX; q++) {
		bar_set(p, MSIX + 16 * q + PCI_MSIX_ENTRY_VECTOR_CTRL, 0, 4);
		bar_set(p, COMMON + VIRTIO_PCI_COMMON_Q_SELECT, q, 2);
		if (size)
			bar_set(p, COMMON + VIRTIO_PCI_COMMON_Q_SIZE, size, 2);
		bar_set(p, COMMON + VIRTIO_PCI_COMMON_Q_MSIX, vector, 2);
		bar_set(p, COMMON + VIRTIO_PCI_COMMON_Q_DESCLO, QUEUE(q), 4);
		bar_set(p, COMMON + VIRTIO_PCI_COMMON_Q_AVAILLO, AVAIL(q), 4);
		bar_set(p, COMMON + VIRTIO_PCI_COMMON_Q_USEDLO, USED(q), 4);
		bar_set(p, COMMON + VIRTIO_PCI_COMMON_Q_ENABLE, 1, 2);
		p->posted[q] = 0;
		memset(p->vm->ram + AVAIL(q), 0, 4);
	}
	bar_set(p, COMMON + VIRTIO_PCI_COMMON_STATUS,
		VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK |
			VIRTIO_CONFIG_S_DRIVER_OK,
		1);
}

static void post_chain(struct program *p)
{
	unsigned q = (unsigned)take(p, 1) % VIRTIO_QUEUES_MAX, n = (unsigned)take(p, 1) % 16;
	uint16_t slot = p->posted[q] % VIRTQ_SIZE_MAX, head = 0;

	for (unsigned i = 0; i < n; i++) {
		struct vring_desc d = {
			.addr = take(p, 2), .len = (uint32_t)take(p, 2), .next = (uint16_t)(i + 1)
		};
		uint8_t flags = (uint8_t)take(p, 1);

		d.flags = flags & 7;
		if (i + 1 < n)
			d.flags |= VRING_DESC_F_NEXT;
		if (flags & 0x80)
			d.next = flags >> 3 & 15;
		if (flags & 0x40)
			d.addr |= 1ull << 63; /* beyond memory, and wraps */
		write_ram(p, QUEUE(q) + i * (uint32_t)sizeof(d), &d, sizeof(d));
	}
	p->posted[q]++;
	write_ram(p, AVAIL(q) + 4 + 2u * slot, &head, 2);
	write_ram(p, AVAIL(q) + 2, &p->posted[q], 2);
	bar_set(p, NOTIFY + 4 * q, q, 2);
}

static void use_clone(struct program *p)
{
	struct device *copy;

	p->bus->ops->quiesce(p->bus);
	if (p->bus->ops->clone(p->bus, &p->vm->port, &copy))
		return;
	p->bus->ops->free(p->bus);
	p->bus = copy;
}

static void look_elsewhere(struct program *p)
{
	uint32_t address = 1u << 31 | (uint32_t)take(p, 1) << 11 | (uint32_t)take(p, 1) << 8 |
			   (uint32_t)take(p, 1);
	uint32_t value;

	p->bus->ops->io(p->bus, NULL, 0, 0, true, &address, 4);
	p->bus->ops->io(p->bus, NULL, 0, 4, false, &value, 4);
}

static void operation(
	struct program *p, size_t (*input)(struct pci_function *fn, const char *buf, size_t len))
{
	unsigned op = (unsigned)take(p, 1) % 12;
	const char text[256] = "input";
	uint64_t value = 0;
	uint32_t at;
	unsigned n;

	switch (op) {
	case 0:
	case 1:
		at = (uint32_t)take(p, 1);
		n = take_width(p, 4);
		value = op ? 0 : take(p, 4);
		config(p, at, !op, &value, n);
		break;
	case 2:
	case 3:
		at = (uint32_t)take(p, 2);
		n = take_width(p, 8);
		value = op == 2 ? take(p, 8) : 0;
		bar(p, at, op == 2, &value, n);
		break;
	case 4:
		at = (uint32_t)take(p, 2);
		n = (unsigned)take(p, 1);
		n = n < p->size ? n : (unsigned)p->size;
		write_ram(p, at, p->data, n);
		p->data += n;
		p->size -= n;
		break;
	case 5:
		bring_up(p);
		break;
	case 6:
		post_chain(p);
		break;
	case 7:
		n = (unsigned)take(p, 1);
		if (input && input(function(p), text, n) > n)
			abort();
		break;
	case 8:
		use_clone(p);
		break;
	case 9:
		p->bus->ops->quiesce(p->bus);
		p->bus->ops->unquiesce(p->bus);
		break;
	case 10:
		p->vm->racer_in = (unsigned)take(p, 1);
		p->vm->racer_at = (uint16_t)take(p, 2);
		p->vm->racer_value = (uint8_t)take(p, 1);
		break;
	case 11:
		look_elsewhere(p);
		break;
	}
}

static void assert_sane(const struct virtio *v)
{
	for (unsigned i = 0; i < v->ops->queues; i++) {
		const struct virtq *q = &v->s.queue[i];

		if (!q->size || q->size > VIRTQ_SIZE_MAX || (q->size & (q->size - 1)))
			abort();
		if (q->vector >= MSIX_VECTORS && q->vector != VIRTIO_MSI_NO_VECTOR)
			abort();
		if (q->ready && (q->desc.v % 16 || q->avail.v % 2 || q->used.v % 4))
			abort();
	}
}

void fuzz_function(struct port *port, struct pci_function *fn, const uint8_t *data, size_t size,
	size_t (*input)(struct pci_function *fn, const char *buf, size_t len),
	void (*end)(struct pci_function *fn))
{
	struct program p = { .data = data, .size = size, .vm = machine_of(port) };

	if (pci_bus_new(port, &p.bus) || pci_bus_add(p.bus, fn))
		abort();
	while (p.size) {
		operation(&p, input);
		assert_sane(virtio_of(function(&p)));
	}
	if (end)
		end(function(&p));
	p.bus->ops->free(p.bus);
}
