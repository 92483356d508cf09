// SPDX-License-Identifier: Apache-2.0
#include "mmu/seal.h"

#include "mmu/trap.h"

#ifdef MMU_DEBUG

/* FNV-1a over the bits that must not change while a table is shared, including all tables below.
 * W may be cleared, and A and D may be set; all other bits must stay. */
static uint64_t hash(const struct mmu *m, const struct mmu_table *t)
{
	uint64_t h = 0xcbf29ce484222325ull;

	for (unsigned i = 0; i < MMU_SLOTS; i++) {
		uint64_t e = slot(t, i);

		if (!is_empty(m, e) && is_link(e, t->level))
			e = (e & MMU_ADDR) ^ hash(m, linked(m, e));
		else if (!is_empty(m, e))
			e &= ~(m->format->write | m->format->accessed | m->format->dirty);
		h = (h ^ e) * 0x100000001b3ull;
	}
	return h;
}

void mmu_seal(struct mmu *m, struct mmu_table *t)
{
	/* Called before refs grows. Two threads that do this at once store the same hash. */
	if (refs_of(t) == 1)
		atomic_store(&t->seal, hash(m, t));
}

bool mmu_seal_intact(const struct mmu *m, const struct mmu_table *t)
{
	return refs_of(t) < 2 || atomic_load(&t->seal) == hash(m, t);
}

void mmu_seal_verify(const struct mmu *m, const struct mmu_table *t)
{
	mmu_trap_unless(mmu_seal_intact(m, t));
}

void mmu_path_verify(
	const struct mmu *m, const struct mmu_root *root, const struct mmu_table *t, uint64_t at)
{
	const struct mmu_table *on_path = top_of(root);

	while (on_path && on_path != t && on_path->level > t->level) {
		uint64_t e = slot(on_path, level_index(at, on_path->level));

		mmu_trap_unless(
			refs_of(on_path) == 1 && !is_empty(m, e) && is_link(e, on_path->level));
		on_path = linked(m, e);
	}
	mmu_trap_unless(on_path == t);
}

#endif
