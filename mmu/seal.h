/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Builds with MMU_DEBUG store a hash of what a table maps (the seal) when the table becomes shared.
 * They trap if the hash is wrong later: then a writer changed the table without breaking it, which
 * would silently corrupt the other sharers. They also check, at each change, that all tables on the
 * path are the root's own. This reads every slot at every fork, so release builds do not do it.
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
