/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A 16550A UART at COM1. The device takes each byte of output at once, and collects the bytes. It
 * passes them to port_console() at the end of a line, when the guest has no more output for now,
 * and before a fork or a stop.
 */
#ifndef RAMET_VMM_DEVICES_SERIAL_H
#define RAMET_VMM_DEVICES_SERIAL_H

#include <stddef.h>

#include "vmm/devices/device.h"

/* 0 or -ENOMEM. */
int serial_new(struct port *port, struct device **out);

/* Input from outside, on any thread. Returns how many bytes were taken: 0 while quiesced. */
size_t serial_input(struct device *dev, const char *buf, size_t len);

#endif
