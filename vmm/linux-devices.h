/* SPDX-License-Identifier: Apache-2.0 */
/* The devices a Linux VM has besides serial port and doorbell. */
#ifndef RAMET_VMM_LINUX_DEVICES_H
#define RAMET_VMM_LINUX_DEVICES_H

#include "vmm/device.h"
#include "vmm/machine.h"

#define LINUX_DEVICES 2u

/* Makes ACPI's device and the PCI bus: virtio console, entropy, and a block device for each disk of
 * cfg, in this order. 0 or -errno. */
int linux_devices_new(struct ramet_vm *vm, const struct ramet_config *cfg,
	struct device *out[LINUX_DEVICES], struct ramet_err *err);

#endif
