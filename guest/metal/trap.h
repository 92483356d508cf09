/* SPDX-License-Identifier: Apache-2.0 */
/* Exceptions of the hypervisor itself, and interrupts of the machine. */
#ifndef METAL_TRAP_H
#define METAL_TRAP_H

void trap_init(void); /* once */
void idt_load(void);  /* on each processor, after it */

#endif
