/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hostile driver for one PCI function. The input is a program for it: each byte that is an
 * operation is followed by its operands (little-endian; what is missing is zero):
 *
 *   op % 12   operands
 *   0         u8 register, u8 width, u32 value   write to the configuration space
 *   1         u8 register, u8 width              read from it
 *   2         u16 offset, u8 width, u64 value    write to the BAR
 *   3         u16 offset, u8 width               read from it
 *   4         u16 address, u8 length, bytes      write to memory
 *   5         u8 vector, u8 size                 bring the device up as a driver does, MSI-X too
 *   6         u8 queue, u8 n, n descriptors      put a chain into a queue brought up by 5, notify:
 *             (u16 address, u16 length, u8 flags; 1 in front: the next one is a loop, or outside)
 *   7         u8 length                          input from outside, where the device has that
 *   8                                            go on with a clone of the bus
 *   9                                            stop and go on, as a fork does
 *   10        u8 n, u16 address, u8 value        another processor: at the n-th look at memory from
 *                                                now, this byte changes
 *   11        u8 slot, u8 function, u8 register  a look at another function
 */
#ifndef TESTS_FUZZ_VIRTIO_H
#define TESTS_FUZZ_VIRTIO_H

#include <stddef.h>
#include <stdint.h>

#include "vmm/devices/virtio-devices.h"

#define FUZZ_RAM 0x10000u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/*
 * Plugs fn into a bus and runs the program. After each operation the device's state must make
 * sense. `input`, if any, is for operation 7. `end`, if any, looks at the function before it goes.
 */
void fuzz_function(struct port *port, struct pci_function *fn, const uint8_t *data, size_t size,
	size_t (*input)(struct pci_function *fn, const char *buf, size_t len),
	void (*end)(struct pci_function *fn));

/* The port of the VM that functions belong to, its memory cleared. */
struct port *fuzz_port(void);

#endif
