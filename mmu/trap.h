/* SPDX-License-Identifier: Apache-2.0 */
/* Checks an invariant in all builds: a wrong count would share memory between VMs by mistake. */
#ifndef RAMET_MMU_TRAP_H
#define RAMET_MMU_TRAP_H

#define mmu_trap_unless(what)             \
	do {                              \
		if (!(what))              \
			__builtin_trap(); \
	} while (0)

#endif
