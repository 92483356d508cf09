/* SPDX-License-Identifier: Apache-2.0 */
/* What must hold, holds: a wrong count would share memory between those who must not share it. */
#ifndef RAMET_MMU_TRAP_H
#define RAMET_MMU_TRAP_H

#define mmu_trap_unless(what)             \
	do {                              \
		if (!(what))              \
			__builtin_trap(); \
	} while (0)

#endif
