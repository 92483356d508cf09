/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A 16550A UART at COM1. Output is always taken at once and collected; it reaches port_console() by
 * the line, when the guest shows that it has no more for now, and before a fork or a stop.
 */
#ifndef RAMET_VMM_DEVICES_SERIAL_H
#define RAMET_VMM_DEVICES_SERIAL_H

#include <stddef.h>

#include "vmm/devices/device.h"

/* 0 or -ENOMEM. */
int serial_new(struct port *port, struct device **out);

/* Input from outside, from any thread: returns how many bytes were taken, none while quiesced. */
size_t serial_input(struct device *dev, const char *buf, size_t len);

#endif
