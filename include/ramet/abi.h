/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest ABI: what a freestanding guest and ramet agree on.
 *
 * Entry (every vCPU at once, 64-bit mode, CPL 0, interrupts off):
 *   RDI = GPA of the flattened device tree, RSI = vCPU index (0-based),
 *   CR3 = identity map of all RAM with 2 MiB pages, user-accessible, writable,
 *   RSP = 0 (the guest brings its own stacks), RFLAGS.IOPL = 3.
 *
 * Guest physical memory:
 *   0x00010000  device tree (at most 64 KiB)
 *   0x00020000  the page tables CR3 names
 *   0x00100000  the guest image (ELF, linked there), entered at its first byte
 *   RAM is [0, min(size, 3 GiB)) and, for the rest, [4 GiB, 4 GiB + rest).
 *
 * The doorbell is a set of 32-bit ports, accessed with 32-bit `in`/`out`; an access of
 * another width reads as all ones and writes nothing. The same registers stand in memory at
 * RAMET_DOORBELL_MMIO, which user space of Linux reaches through /dev/mem (`devmem 0xd0000020`
 * tells the clone id).
 */
#ifndef RAMET_ABI_H
#define RAMET_ABI_H

#define RAMET_GPA_FDT	 0x00010000u
#define RAMET_FDT_MAX	 0x00010000u
#define RAMET_GPA_TABLES 0x00020000u
#define RAMET_GPA_IMAGE	 0x00100000u
#define RAMET_RAM_HOLE	 0xc0000000ull	/* RAM pauses here ...   */
#define RAMET_RAM_HIGH	 0x100000000ull /* ... and goes on here  */

#define RAMET_DOORBELL	    0x600u /* first port; registers are offsets from it */
#define RAMET_DOORBELL_LEN  0x60u
#define RAMET_DOORBELL_MMIO 0xd0000000u

/* Write-only */
#define RAMET_DB_HEARTBEAT 0x00u /* a counter: "I live" */
#define RAMET_DB_EXIT	   0x04u /* stop this VM with this exit status (0..255) */
#define RAMET_DB_SLEEP	   0x08u /* stop this vCPU for so many microseconds (at most 10^6) */
#define RAMET_DB_PHASE	   0x0cu /* where the guest is in its work, see RAMET_PHASE_* */
#define RAMET_DB_REPORT_LO 0x10u /* a 64-bit address for the report to come, low half */
#define RAMET_DB_REPORT_HI 0x14u /* high half */
#define RAMET_DB_REPORT	   0x18u /* report: code (RAMET_REPORT_*), commits the address */

/*
 * Read and write. Writing (any value) says: this guest has taken the random bits of its present
 * birth, and promises to take those of each birth to come. In the Linux machine ACPI does it: when
 * a driver asks where the VM generation id lies, and for each event. Reads 0 while a promise is yet
 * to be kept in this birth, else 1.
 */
#define RAMET_DB_RESEED 0x1cu

#define RAMET_SLEEP_MAX 1000000u

/*
 * Read-only. GENERATION counts the births (boot, fork, reset) this VM went through. It changes in a
 * new clone and after a reset, and also in the parent of a fork, which goes on from the same
 * moment: a guest that finds it unchanged has not been forked or reset since. CLONE_ID and GENID
 * tell whether it is another VM now.
 */
#define RAMET_DB_CLONE_ID   0x20u /* 0 in a VM that booted; unique in its family in a clone */
#define RAMET_DB_GENERATION 0x24u
#define RAMET_DB_GENID0	    0x30u /* 128 random bits of this VM's birth, four registers */
#define RAMET_DB_GENID3	    0x3cu

/*
 * Read-only: the host's wall clock, nanoseconds since 1970, for who wants to see whether his is
 * right. Reading the low half takes it; the high half is of what was taken last.
 */
#define RAMET_DB_WALL_LO 0x40u
#define RAMET_DB_WALL_HI 0x44u

#define RAMET_PHASE_BOOT     0u
#define RAMET_PHASE_READY    1u /* set-up is done (memory dirtied, pattern written): fork now */
#define RAMET_PHASE_VERIFIED 2u /* `verify`: inherited memory was right, so is what it wrote */

#define RAMET_REPORT_NONE     0u
#define RAMET_REPORT_MISMATCH 1u /* `verify` read a wrong byte at the address */
#define RAMET_REPORT_TRAP     2u /* an unexpected exception, at this RIP */
#define RAMET_REPORT_ORDER    3u /* `smp`: this counter lost an update or went back */
#define RAMET_REPORT_TICK     4u /* `smp`: this counter of timer ticks stopped */
#define RAMET_REPORT_STATE    5u /* `state`: this register (guest/state.h) changed over a fork */
#define RAMET_REPORT_TIME     6u /* `smp`: a vCPU's TSC was behind the one here, seen before */

/* Exit statuses of the built-in guests */
#define RAMET_EXIT_FAILED 1u	/* something was wrong, see the report */
#define RAMET_EXIT_USAGE  2u	/* an argument it does not know, or a bad machine description */
#define RAMET_EXIT_TRAP	  0x80u /* + vector: an unexpected exception */

#endif
