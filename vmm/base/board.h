/* SPDX-License-Identifier: Apache-2.0 */
/* The fixed addresses and interrupt lines of the machine. A device and the tables that describe it
 * use the same constants. */
#ifndef RAMET_VMM_BASE_BOARD_H
#define RAMET_VMM_BASE_BOARD_H

/* The first serial port. */
#define COM1_BASE 0x3f8u
#define COM1_LEN  8u
#define COM1_GSI  4u

/* Ports and lines of ACPI's part of the machine (vmm/devices/acpi-device.c, vmm/boot/dsdt.asl). */
#define ACPI_PORT_SLEEP	 0x660u /* sleep control register */
#define ACPI_PORT_STATUS 0x661u /* sleep status register */
#define ACPI_PORT_RESET	 0x662u
#define ACPI_PORTS	 0x660u
#define ACPI_PORTS_LEN	 4u
#define ACPI_SLEEP_OFF	 5u /* sleep type of S5, as in \_S5 of the DSDT */
#define ACPI_RESET_VALUE 0x0fu
#define ACPI_GED_GSI	 9u

/* The keyboard controller of a PC. Only its reset line exists. */
#define KBD_PORT	0x64u
#define KBD_PULSE_RESET 0xfeu

/* The range for the base address registers of PCI functions. */
#define PCI_MMIO_BASE 0xc0000000u
#define PCI_MMIO_LEN  0x01000000u

/* GPA of the page that has the VM generation id, 16 bytes. */
#define LINUX_GPA_GENID 0x000f0000u

#endif
