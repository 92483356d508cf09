/* SPDX-License-Identifier: Apache-2.0 */
/* Constants that boot.S and the C files share. */
#ifndef METAL_BOOT_H
#define METAL_BOOT_H

#define SEL_CODE   0x08
#define SEL_DATA   0x10
#define SEL_CODE32 0x18
#define SEL_TSS	   0x20

#define BOOT_STACK 0x8000
#define AP_START   0x8000 /* page-aligned, below 1 MiB */
#define TRAP_STUB  16	  /* bytes per stub in trap_stubs */
#define IRQ_VECTOR 0x40

#endif
