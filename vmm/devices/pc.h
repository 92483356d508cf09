/* SPDX-License-Identifier: Apache-2.0 */
/* The devices of a Linux VM, except serial port and doorbell. */
#ifndef RAMET_VMM_DEVICES_PC_H
#define RAMET_VMM_DEVICES_PC_H

#include "vmm/base/err.h"
#include "vmm/devices/device.h"

#define LINUX_DEVICES 2u

/* Makes the ACPI device and the PCI bus with virtio console, entropy, and a block device for each
 * disk of cfg, in this order. 0 or -errno. */
int linux_devices_new(struct port *port, const struct ramet_config *cfg,
	struct device *out[LINUX_DEVICES], struct ramet_err *err);

/* True if a kernel with this command line (or NULL) uses the virtio console as /dev/console. */
bool linux_console_is_virtio(const char *cmdline);
/* Passes input to the virtio console of these devices. Returns the number of bytes taken. */
size_t linux_console_input(struct device *const dev[LINUX_DEVICES], const char *buf, size_t len);

#endif
