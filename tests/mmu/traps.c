/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A write to a shared table is detected. Each kind of such a write is made in a separate process,
 * which must die. Needs a build with seals.
 */
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mmu/table.h"
#include "tests/mmu/harness.h"

static struct harness h;
static struct mmu_root *const parent = &h.root[0].root, *const child = &h.root[1].root;

static const struct h_op map_all = { H_MAP, 0, 0, 0, H_PAGES - 1, 0x04, H_FAILS };

static void share_at(uint8_t level)
{
	struct h_op fork = { H_FORK, 0, 1, 0, 0, level, H_FAILS };

	h_start(&h, &mmu_ept);
	h_require(!h_run(&h, &map_all) && !h_run(&h, &fork));
	h_check(&h);
}

static struct mmu_table *table_of(struct mmu_root *root, unsigned level)
{
	return mmu_table_find(&h.mmu, root, 0, level);
}

/* A stray store, like that of a walker that did not break the table. */
static void store(unsigned share, unsigned level)
{
	share_at((uint8_t)share);
	table_of(child, level)->slot[1] ^= MMU_PAGE_SIZE;
}

static void store_then_write(void)
{
	store(1, 1);
	mmu_touch_write(&h.mmu, parent, gpa(0), NULL);
}

static void store_then_put(void)
{
	store(1, 1);
	mmu_root_put(&h.mmu, child);
}

static void store_below_then_write(void)
{
	store(3, 1);
	mmu_touch_write(&h.mmu, parent, gpa(0), NULL);
}

static void store_then_check(void)
{
	store(2, 1);
	h_check(&h);
}

/* A write through the library's own mmu_set_slot(). */
static void set_slot(unsigned share)
{
	struct mmu_change c;

	share_at((uint8_t)share);
	mmu_change_start(&c, &h.mmu, child);
	mmu_set_slot(&c, table_of(child, 1), 0, 0, 0);
}

static void set_shared_slot(void)
{
	set_slot(1);
}

static void set_slot_below_shared(void)
{
	set_slot(2);
}

/* Wrong counts would share memory by mistake. */
static void put_too_often(void)
{
	share_at(1);
	for (unsigned i = 0; i < 3; i++)
		mmu_table_put(&h.mmu, table_of(parent, 1));
}

static bool dies(void (*what)(void))
{
	pid_t pid = fork();
	int status;

	h_require(pid >= 0);
	if (!pid) {
		/* Do not show the messages of the dying process. */
		if (!freopen("/dev/null", "w", stderr))
			_exit(1);
		what();
		_exit(0);
	}
	h_require(waitpid(pid, &status, 0) == pid);
	return WIFSIGNALED(status) || (WIFEXITED(status) && WEXITSTATUS(status) > 1);
}

static void nothing_wrong(void)
{
	share_at(2);
	mmu_touch_write(&h.mmu, parent, gpa(0), NULL);
	mmu_touch_write(&h.mmu, child, gpa(0), NULL);
}

int main(void)
{
	h_require(!dies(nothing_wrong));
	h_require(dies(store_then_write));
	h_require(dies(store_then_put));
	h_require(dies(store_below_then_write));
	h_require(dies(store_then_check));
	h_require(dies(set_shared_slot));
	h_require(dies(set_slot_below_shared));
	h_require(dies(put_too_often));
	return 0;
}
