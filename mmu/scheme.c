// SPDX-License-Identifier: Apache-2.0
/*
 * Schemes: how empty tables are noticed, and what keeps a table alive during a visit. Linux's
 * pte_ref patches tried these schemes one after the other. Each kind of reference has its own
 * count: slots in use (table->used, under its lock), sharers (table->refs), visits. All schemes
 * need the grace period of sync.c, since a walker must find a table before it can count itself.
 * They differ in the cost of a visit, and in what a long visit delays.
 */
#include "mmu/table.h"

/* No counting: a visit is a walk, and delays the end of the grace period. */
static bool plain_get(struct mmu_cpu *cpu, struct mmu_table *t)
{
	return true;
}

static bool plain_put(struct mmu_cpu *cpu, struct mmu_table *t)
{
	return false;
}

static enum mmu_settled plain_settle(struct mmu *m, struct mmu_table *t)
{
	return MMU_FREE;
}

static bool never_empty(const struct mmu *m, struct mmu_table *t)
{
	return false;
}

const struct mmu_scheme mmu_none = {
	.name = "none",
	.keeps_empty = true,
	.get = plain_get,
	.put = plain_put,
	.settle = plain_settle,
	.is_empty = never_empty,
};

/* As PT_RECLAIM in Linux 6.14: when pages are discarded, scan the slots. The scan begins at the
 * slot that the last scan found in use, which probably still is. So discarding page by page does
 * not read all slots each time. */
static bool scan_empty(const struct mmu *m, struct mmu_table *t)
{
	unsigned from = atomic_load_explicit(&t->in_use, memory_order_relaxed);

	for (unsigned i = from; i < from + MMU_SLOTS; i++)
		if (!is_empty(m, slot(t, i % MMU_SLOTS))) {
			atomic_store_explicit(
				&t->in_use, (uint16_t)(i % MMU_SLOTS), memory_order_relaxed);
			return false;
		}
	return true;
}

const struct mmu_scheme mmu_scan = {
	.name = "scan",
	.get = plain_get,
	.put = plain_put,
	.settle = plain_settle,
	.is_empty = scan_empty,
};

static bool count_empty(const struct mmu *m, struct mmu_table *t)
{
	return !used_of(t);
}

/* One count in the table: 1 while the table is linked, plus 1 for each visit. A visit cannot begin
 * when the count is 0. */
static bool atomic_get(struct mmu_cpu *cpu, struct mmu_table *t)
{
	uint32_t v = atomic_load_explicit(&t->walkers, memory_order_relaxed);

	do {
		if (!v)
			return false;
	} while (!atomic_compare_exchange_weak_explicit(
		&t->walkers, &v, v + 1, memory_order_acquire, memory_order_relaxed));
	return true;
}

static bool atomic_put(struct mmu_cpu *cpu, struct mmu_table *t)
{
	return atomic_fetch_sub_explicit(&t->walkers, 1, memory_order_acq_rel) == 1;
}

static enum mmu_settled atomic_settle(struct mmu *m, struct mmu_table *t)
{
	return atomic_put(NULL, t) ? MMU_FREE : MMU_VISITED;
}

const struct mmu_scheme mmu_atomic = {
	.name = "atomic",
	.counts = true,
	.get = atomic_get,
	.put = atomic_put,
	.settle = atomic_settle,
	.is_empty = count_empty,
};

/*
 * While a table is linked, each CPU has a count of its own for it. No other CPU writes that count,
 * so it needs no atomic operation. After the first grace period of a dead table no new visit can
 * begin; from then on the ends of visits use the count in the table. After the second period no
 * thread is in the middle of ending a visit, and the CPUs' counts are added to the table's.
 */
#define SUMMED (1u << 31) /* use the count in the table */
#define BIAS   (1u << 30) /* keeps that count above 0 until the CPUs' counts are added */

static void count_visit(struct mmu_cpu *cpu, const struct mmu_table *t, int32_t n)
{
	_Atomic int32_t *c = &cpu->walkers[t->id];

	atomic_store_explicit(
		c, atomic_load_explicit(c, memory_order_relaxed) + n, memory_order_release);
}

static bool percpu_get(struct mmu_cpu *cpu, struct mmu_table *t)
{
	if (atomic_load_explicit(&t->dead, memory_order_relaxed))
		return false;
	count_visit(cpu, t, 1);
	return true;
}

static bool percpu_put(struct mmu_cpu *cpu, struct mmu_table *t)
{
	if (atomic_load(&t->walkers) & SUMMED)
		return atomic_fetch_sub(&t->walkers, 1) == (SUMMED | 1);
	count_visit(cpu, t, -1);
	return false;
}

static enum mmu_settled percpu_settle(struct mmu *m, struct mmu_table *t)
{
	int32_t visits = 0;

	if (!(atomic_load(&t->walkers) & SUMMED)) {
		atomic_store(&t->walkers, SUMMED | BIAS);
		return MMU_ANOTHER_PERIOD;
	}
	for (unsigned i = 0; i < m->n_cpus; i++)
		visits += atomic_exchange(&m->cpu[i].walkers[t->id], 0);
	visits -= (int32_t)BIAS;
	return atomic_fetch_add(&t->walkers, (uint32_t)visits) + (uint32_t)visits == SUMMED
		       ? MMU_FREE
		       : MMU_VISITED;
}

const struct mmu_scheme mmu_percpu = {
	.name = "percpu",
	.counts = true,
	.get = percpu_get,
	.put = percpu_put,
	.settle = percpu_settle,
	.is_empty = count_empty,
};

const char *mmu_scheme_name(const struct mmu_scheme *scheme)
{
	return scheme->name;
}
