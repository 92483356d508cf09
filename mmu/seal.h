/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Builds with MMU_DEBUG seal a table when it becomes shared, with a hash of what it maps, and trap
 * when the seal is found broken: somebody wrote into it who had not broken the sharing, which would
 * silently corrupt the others. Changes through the library prove that all of the path to the table
 * is their root's own. Costs a look at every slot at every fork, so releases do without.
 */
#ifndef RAMET_MMU_SEAL_H
#define RAMET_MMU_SEAL_H

#include "mmu/slot.h"

#ifdef MMU_DEBUG
void mmu_seal(struct mmu *m, struct mmu_table *t);
bool mmu_seal_intact(const struct mmu *m, const struct mmu_table *t);
void mmu_seal_verify(const struct mmu *m, const struct mmu_table *t);
void mmu_path_verify(
	const struct mmu *m, const struct mmu_root *root, const struct mmu_table *t, uint64_t at);
#else
static inline void mmu_seal(struct mmu *m, struct mmu_table *t)
{
}

static inline bool mmu_seal_intact(const struct mmu *m, const struct mmu_table *t)
{
	return true;
}

static inline void mmu_seal_verify(const struct mmu *m, const struct mmu_table *t)
{
}

static inline void mmu_path_verify(
	const struct mmu *m, const struct mmu_root *root, const struct mmu_table *t, uint64_t at)
{
}
#endif

#endif
