/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers that the ring-0 stub and the library share. They have no suffixes, for the assembler. */
#ifndef GUEST_LAYOUT_H
#define GUEST_LAYOUT_H

#define GUEST_CPUS	  8  /* RAMET_CPUS_MAX */
#define GUEST_STACK_SHIFT 14 /* a ring-3 stack is 16 KiB */
#define GUEST_TICK_VECTOR 64
#define GUEST_TICK_STRIDE 64 /* bytes between two vCPUs' tick counters: a cache line */

#endif
