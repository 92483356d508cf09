// SPDX-License-Identifier: Apache-2.0
/* Locks, and a grace period that is measured in epochs. */
#include "mmu/sync.h"

#define EXCLUSIVE (1u << 31)

void mmu_relax(struct mmu *m)
{
	if (m->ops->relax)
		m->ops->relax(m->ctx);
	else
		__builtin_ia32_pause();
}

void mmu_spin_lock(struct mmu *m, _Atomic uint8_t *lock)
{
	if (is_serial(m))
		return;
	while (atomic_exchange_explicit(lock, 1, memory_order_acquire))
		while (atomic_load_explicit(lock, memory_order_relaxed))
			mmu_relax(m);
}

static void lock_exclusive(struct mmu *m, struct mmu_root *root)
{
	/* The bit keeps new holders out; then wait until the present holders have left. */
	while (atomic_fetch_or(&root->lock, EXCLUSIVE) & EXCLUSIVE)
		mmu_relax(m);
	while (atomic_load(&root->lock) != EXCLUSIVE)
		mmu_relax(m);
}

static void lock_shared(struct mmu *m, struct mmu_root *root)
{
	uint32_t v = atomic_load(&root->lock);

	for (;;) {
		if (v & EXCLUSIVE) {
			mmu_relax(m);
			v = atomic_load(&root->lock);
		} else if (atomic_compare_exchange_weak(&root->lock, &v, v + 1)) {
			return;
		}
	}
}

void mmu_root_lock(struct mmu *m, struct mmu_root *root, bool exclusive)
{
	if (is_serial(m))
		return;
	if (exclusive)
		lock_exclusive(m, root);
	else
		lock_shared(m, root);
}

void mmu_root_unlock(struct mmu *m, struct mmu_root *root, bool exclusive)
{
	if (is_serial(m))
		return;
	if (exclusive)
		atomic_fetch_and(&root->lock, ~EXCLUSIVE);
	else
		atomic_fetch_sub(&root->lock, 1);
}

struct mmu_cpu *mmu_walk_begin(struct mmu *m)
{
	struct mmu_cpu *cpu;

	if (is_serial(m))
		return NULL;
	cpu = &m->cpu[m->ops->cpu(m->ctx)];
	/*
	 * Sequentially consistent, and so is the addition in mmu_retire(). So either this walk sees
	 * that a table is unlinked, or the thread that unlinked the table sees this walk.
	 */
	if (!cpu->depth++)
		atomic_exchange(&cpu->epoch, atomic_load(&m->epoch));
	return cpu;
}

void mmu_walk_end(struct mmu_cpu *cpu)
{
	if (cpu && !--cpu->depth)
		atomic_store(&cpu->epoch, 0);
}

static void add_to_limbo(struct mmu *m, struct mmu_table *t)
{
	t->next = NULL;
	t->epoch = atomic_fetch_add(&m->epoch, 1);
	*m->limbo_end = t;
	m->limbo_end = &t->next;
}

void mmu_retire(struct mmu *m, struct mmu_table *t)
{
	enum mmu_settled settled;

	if (is_serial(m)) {
		do
			settled = m->scheme->settle(m, t);
		while (settled == MMU_ANOTHER_PERIOD);
		if (settled == MMU_FREE)
			m->ops->free_table(m->ctx, t);
		return;
	}
	mmu_spin_lock(m, &m->limbo_lock);
	add_to_limbo(m, t);
	mmu_spin_unlock(m, &m->limbo_lock);
}

/* The epoch in which the oldest walk that is under way began. */
static uint64_t oldest_walk(struct mmu *m)
{
	uint64_t oldest = UINT64_MAX;

	for (unsigned i = 0; i < m->n_cpus; i++) {
		uint64_t e = atomic_load(&m->cpu[i].epoch);

		if (e && e < oldest)
			oldest = e;
	}
	return oldest;
}

/* Removes the tables whose grace period is over from the list, and returns them. */
static struct mmu_table *take_from_limbo(struct mmu *m)
{
	struct mmu_table *first, **end = &m->limbo;
	uint64_t oldest;

	mmu_spin_lock(m, &m->limbo_lock);
	oldest = oldest_walk(m);
	while (*end && (*end)->epoch < oldest)
		end = &(*end)->next;
	first = m->limbo;
	if (end == &m->limbo) {
		first = NULL;
	} else {
		m->limbo = *end;
		if (!*end)
			m->limbo_end = &m->limbo;
		*end = NULL;
	}
	mmu_spin_unlock(m, &m->limbo_lock);
	return first;
}

void mmu_limbo_poll(struct mmu *m)
{
	struct mmu_table *t, *next;

	if (is_serial(m))
		return;
	for (t = take_from_limbo(m); t; t = next) {
		next = t->next;
		switch (m->scheme->settle(m, t)) {
		case MMU_FREE:
			m->ops->free_table(m->ctx, t);
			break;
		case MMU_ANOTHER_PERIOD:
			mmu_retire(m, t);
			break;
		case MMU_VISITED:
			break;
		}
	}
}

void mmu_quiesce(struct mmu *m)
{
	uint64_t until;

	if (is_serial(m))
		return;
	/* Two periods: mmu_percpu needs a second one to add up its counts. */
	for (unsigned i = 0; i < 2; i++) {
		until = atomic_fetch_add(&m->epoch, 1);
		while (oldest_walk(m) <= until)
			mmu_relax(m);
		mmu_limbo_poll(m);
	}
}
