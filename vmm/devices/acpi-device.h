/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The devices that the ACPI tables describe: power-off and reset registers, and the VM generation
 * id with its event. Also the reset line of a PC's keyboard controller. A guest that powers off
 * ends its VM with status 0. A reset ends it with status ACPI_EXIT_RESET: a VM does not boot twice.
 */
#ifndef RAMET_VMM_DEVICES_ACPI_DEVICE_H
#define RAMET_VMM_DEVICES_ACPI_DEVICE_H

#include "vmm/devices/device.h"

#define ACPI_EXIT_RESET 64

/* 0 or -ENOMEM. */
int acpi_device_new(struct port *port, struct device **out);

#endif
