/* SPDX-License-Identifier: Apache-2.0 */
/* The guest's commands and its memory map. */
#ifndef METAL_GUEST_H
#define METAL_GUEST_H

#define GUEST_WRITE	 1 /* write words with a pattern */
#define GUEST_VERIFY	 2 /* compare words with the pattern */
#define GUEST_READ	 3 /* read words, without comparing */
#define GUEST_CALL	 4
#define GUEST_SPIN_WRITE 5
#define GUEST_SPIN_READ	 6

#define GUEST_PATTERN 0x9e3779b1

#define GUEST_CODE 0x1000
/* The guest's page tables, if it uses them. They map the first GiB to itself, and a window, in
 * pages of 2 MiB. */
#define GUEST_PML4 0x2000
#define GUEST_PDPT 0x3000
#define GUEST_PD   0x4000 /* two tables */
/* The page tables map the window to physical addresses that no 32-bit guest can reach. */
#define GUEST_WINDOW	0xc0000000
#define GUEST_WINDOW_AT 0x8000000000
#define GUEST_DATA	0x200000 /* the tests use the memory from here on */

#endif
