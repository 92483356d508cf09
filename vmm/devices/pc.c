/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "vmm/devices/pc.h"
#include "vmm/devices/acpi-device.h"
#include "vmm/devices/disk.h"
#include "vmm/devices/pci.h"
#include "vmm/devices/virtio-devices.h"

#define CONSOLE_SLOT 1u /* the first function after the bridge */

/* Plugs fn in. Takes over fn, even on failure. */
static int plug(struct device *bus, struct pci_function *fn)
{
	int ret = pci_bus_add(bus, fn);

	if (ret)
		fn->ops->free(fn);
	return ret;
}

static int plug_disk(
	struct port *port, struct device *bus, const struct ramet_disk *spec, struct ramet_err *err)
{
	struct pci_function *fn;
	struct disk *disk;
	int ret = disk_open(spec->path, spec->readonly, &disk, err);

	if (ret)
		return ret;
	ret = virtio_blk_new(port, disk, &fn);
	if (ret)
		disk_free(disk);
	else
		ret = plug(bus, fn);
	return ret ? err_set(err, ret, "disk '%s': out of memory", spec->path) : 0;
}

static int plug_all(struct port *port, const struct ramet_config *cfg, struct device *bus,
	struct ramet_err *err)
{
	struct pci_function *fn;
	int ret = virtio_console_new(port, &fn);

	if (!ret)
		ret = plug(bus, fn);
	if (!ret)
		ret = virtio_rng_new(port, &fn);
	if (!ret)
		ret = plug(bus, fn);
	if (ret)
		return err_set(err, ret, "virtio devices: out of memory");
	for (unsigned i = 0; !ret && i < cfg->n_disks; i++)
		ret = plug_disk(port, bus, &cfg->disks[i], err);
	return ret;
}

int linux_devices_new(struct port *port, const struct ramet_config *cfg,
	struct device *out[LINUX_DEVICES], struct ramet_err *err)
{
	struct device *acpi, *bus;
	int ret = acpi_device_new(port, &acpi);

	if (ret)
		return err_set(err, ret, "ACPI: out of memory");
	ret = pci_bus_new(port, &bus);
	if (ret) {
		acpi->ops->free(acpi);
		return err_set(err, ret, "PCI bus: out of memory");
	}
	ret = plug_all(port, cfg, bus, err);
	if (ret) {
		bus->ops->free(bus);
		acpi->ops->free(acpi);
		return ret;
	}
	out[0] = acpi;
	out[1] = bus;
	return 0;
}

/* Linux uses the last console= option: Documentation/admin-guide/serial-console.rst. */
bool linux_console_is_virtio(const char *cmdline)
{
	const char *at = cmdline, *last = "";

	while (at && (at = strstr(at, "console="))) {
		bool word = at == cmdline || at[-1] == ' ';

		at += strlen("console=");
		if (word)
			last = at;
	}
	return !strncmp(last, "hvc", 3);
}

size_t linux_console_input(struct device *const dev[LINUX_DEVICES], const char *buf, size_t len)
{
	return virtio_console_input(pci_bus_function(dev[1], CONSOLE_SLOT), buf, len);
}
