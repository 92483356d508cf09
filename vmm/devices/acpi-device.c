/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sources: ACPI Specification 6.4, 4.8.3.7 (sleep control and status), 4.8.3.6 (reset), 5.6.9
 * (generic event device); "Virtual Machine Generation ID", Microsoft 2012: the id is changed first,
 * then the device is notified.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/devices/acpi-device.h"
#include "vmm/base/board.h"

enum { SLEEP_ENABLE = 1 << 5, SLEEP_TYPE_SHIFT = 2, SLEEP_TYPE_MASK = 7 };

enum { WIN_ACPI, WIN_KBD };

static void acpi_write(struct port *port, uint64_t address, uint8_t value)
{
	unsigned type = value >> SLEEP_TYPE_SHIFT & SLEEP_TYPE_MASK;

	if (address == ACPI_PORT_SLEEP && (value & SLEEP_ENABLE) && type == ACPI_SLEEP_OFF)
		port_exit(port, 0);
	if (address == ACPI_PORT_RESET && value == ACPI_RESET_VALUE)
		port_exit(port, ACPI_EXIT_RESET);
}

static void acpi_io(struct device *dev, struct vcpu *vcpu, unsigned win, uint64_t addr, bool write,
	void *data, unsigned size)
{
	/* Reads return 0. ACPI: no sleep or wake is pending; keyboard: ready for a command. */
	if (!write)
		memset(data, 0, size);
	else if (size == 1 && win == WIN_KBD && *(uint8_t *)data == KBD_PULSE_RESET)
		port_exit(dev->port, ACPI_EXIT_RESET);
	else if (size == 1 && win == WIN_ACPI)
		acpi_write(dev->port, ACPI_PORTS + addr, *(uint8_t *)data);
}

static int acpi_clone(const struct device *dev, struct port *port, struct device **out)
{
	return acpi_device_new(port, out);
}

/* Writes the new id before the clone's first instruction. acpi_loaded() then sends the event. */
static int acpi_born(struct device *dev)
{
	void *id = port_mem(dev->port, gpa(LINUX_GPA_GENID), 16);
	struct identity who;

	/* If the id stayed that of the parent, the guest would not reseed at the event. */
	if (!id)
		return -ENOMEM;
	dev->port->ops->identity(dev->port, &who);
	memcpy(id, who.genid, sizeof(who.genid));
	return 0;
}

/* Sends the event: the guest then reseeds its random numbers. */
static void acpi_loaded(struct device *dev)
{
	port_irq(dev->port, ACPI_GED_GSI, true);
	port_irq(dev->port, ACPI_GED_GSI, false);
}

static void acpi_free(struct device *dev)
{
	free(dev);
}

static const struct device_ops acpi_ops = {
	.name = "acpi",
	.io = acpi_io,
	.clone = acpi_clone,
	.born = acpi_born,
	.loaded = acpi_loaded,
	.free = acpi_free,
};

int acpi_device_new(struct port *port, struct device **out)
{
	struct device *dev = calloc(1, sizeof(*dev));

	if (!dev)
		return -ENOMEM;
	dev->ops = &acpi_ops;
	dev->port = port;
	dev->win[WIN_ACPI] = (struct device_window){ SPACE_PIO, ACPI_PORTS, ACPI_PORTS_LEN };
	dev->win[WIN_KBD] = (struct device_window){ SPACE_PIO, KBD_PORT, 1 };
	*out = dev;
	return 0;
}
