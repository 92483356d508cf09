/* SPDX-License-Identifier: Apache-2.0 */
/* The guest's commands, and what lies where in its memory. */
#ifndef METAL_GUEST_H
#define METAL_GUEST_H

#define GUEST_WRITE	 1 /* words with a pattern */
#define GUEST_VERIFY	 2 /* them */
#define GUEST_READ	 3 /* them, whatever is there */
#define GUEST_CALL	 4
#define GUEST_SPIN_WRITE 5
#define GUEST_SPIN_READ	 6

#define GUEST_PATTERN 0x9e3779b1

#define GUEST_CODE 0x1000
/* Its page tables, if it has some: the first GiB where it is and a window, in pages of 2 MiB. */
#define GUEST_PML4 0x2000
#define GUEST_PDPT 0x3000
#define GUEST_PD   0x4000 /* two */
/* With page tables, these addresses are mapped to physical ones that no 32-bit guest reaches. */
#define GUEST_WINDOW	0xc0000000
#define GUEST_WINDOW_AT 0x8000000000
#define GUEST_DATA	0x200000 /* from here on it is the tests' */

#endif
