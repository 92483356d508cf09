/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest ABI: the interface between a freestanding guest and ramet.
 *
 * Entry (all vCPUs start at the same time, in 64-bit mode, CPL 0, interrupts off):
 *   RDI = GPA of the flattened device tree, RSI = vCPU index (0-based),
 *   CR3 = identity map of all RAM with 2 MiB pages, user-accessible, writable,
 *   RSP = 0 (the guest has its own stacks), RFLAGS.IOPL = 3.
 *
 * Guest physical memory:
 *   0x00010000  device tree (at most 64 KiB)
 *   0x00020000  the page tables that CR3 points to
 *   0x00100000  the guest image (an ELF file linked for this address), entered at its first byte
 *   RAM is [0, min(size, 3 GiB)) and, for the rest, [4 GiB, 4 GiB + rest).
 *
 * The doorbell is a set of 32-bit ports, accessed with 32-bit `in`/`out`. A read of
 * another width returns all ones, a write of another width does nothing. The same registers are
 * also in memory at RAMET_DOORBELL_MMIO. Linux user space reaches them through /dev/mem (`devmem
 * 0xd0000020` prints the clone id).
 */
#ifndef RAMET_ABI_H
#define RAMET_ABI_H

#define RAMET_GPA_FDT	 0x00010000u
#define RAMET_FDT_MAX	 0x00010000u
#define RAMET_GPA_TABLES 0x00020000u
#define RAMET_GPA_IMAGE	 0x00100000u
#define RAMET_RAM_HOLE	 0xc0000000ull	/* end of the low RAM */
#define RAMET_RAM_HIGH	 0x100000000ull /* start of the high RAM */

#define RAMET_DOORBELL	    0x600u /* first port; registers are offsets from it */
#define RAMET_DOORBELL_LEN  0x60u
#define RAMET_DOORBELL_MMIO 0xd0000000u

/* Write-only */
#define RAMET_DB_HEARTBEAT 0x00u /* a counter: shows that the guest makes progress */
#define RAMET_DB_EXIT	   0x04u /* stop this VM with this exit status (0..255) */
#define RAMET_DB_SLEEP	   0x08u /* stop this vCPU for this many microseconds (at most 10^6) */
#define RAMET_DB_PHASE	   0x0cu /* how far the guest is in its work, see RAMET_PHASE_* */
#define RAMET_DB_REPORT_LO 0x10u /* the address for the next report: bits 31:0 */
#define RAMET_DB_REPORT_HI 0x14u /* the address for the next report: bits 63:32 */
#define RAMET_DB_REPORT	   0x18u /* a code (RAMET_REPORT_*): reports it with that address */

/*
 * Read and write. A write of any value means: this guest has used the random bits of its present
 * birth to reseed, and promises to do so after each future birth. In the Linux machine, ACPI code
 * writes it: when a driver asks for the address of the VM generation id, and for each event. Reads
 * 0 if the guest has promised but not yet reseeded in this birth, otherwise 1.
 */
#define RAMET_DB_RESEED 0x1cu

#define RAMET_SLEEP_MAX 1000000u

/*
 * Read-only. GENERATION is the number of births (boot, fork, reset) of this VM. It changes in a new
 * clone, after a reset, and also in the parent of a fork, because parent and clone continue from
 * the same moment. So a guest that reads the same value again has not been forked or reset in
 * between. CLONE_ID and GENID tell whether it is now a different VM.
 */
#define RAMET_DB_CLONE_ID   0x20u /* 0 in the VM that booted; in a clone unique in its family */
#define RAMET_DB_GENERATION 0x24u
#define RAMET_DB_GENID0	    0x30u /* 128 random bits of this VM's birth, four registers */
#define RAMET_DB_GENID3	    0x3cu

/*
 * Read-only: the host's wall clock, in nanoseconds since 1970. A guest can compare its own clock
 * with it. Reading WALL_LO takes the time; WALL_HI returns the high half of the time last taken.
 */
#define RAMET_DB_WALL_LO 0x40u
#define RAMET_DB_WALL_HI 0x44u

#define RAMET_PHASE_BOOT     0u
#define RAMET_PHASE_READY    1u /* set-up is done (memory dirtied, pattern written): fork now */
#define RAMET_PHASE_VERIFIED 2u /* `verify`: the inherited memory and its own writes were right */

#define RAMET_REPORT_NONE     0u
#define RAMET_REPORT_MISMATCH 1u /* `verify` read a wrong byte at the address */
#define RAMET_REPORT_TRAP     2u /* an unexpected exception, at this RIP */
#define RAMET_REPORT_ORDER    3u /* `smp`: the counter there lost an update or went back */
#define RAMET_REPORT_TICK     4u /* `smp`: the counter of timer ticks there stopped */
#define RAMET_REPORT_STATE    5u /* `state`: this register (guest/state.h) changed over a fork */
#define RAMET_REPORT_TIME     6u /* `smp`: a vCPU's TSC was behind an earlier value, stored there */

/* Exit statuses of the built-in guests */
#define RAMET_EXIT_FAILED 1u	/* the guest found a fault, see the report */
#define RAMET_EXIT_USAGE  2u	/* an unknown argument, or a bad device tree */
#define RAMET_EXIT_TRAP	  0x80u /* + vector: an unexpected exception */

#endif
