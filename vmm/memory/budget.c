// SPDX-License-Identifier: Apache-2.0
#include "vmm/memory/budget.h"

#include <stdio.h>
#include <string.h>

void budget_init(struct budget *b, const struct headroom_left *left)
{
	atomic_init(&b->tight, false);
	lock_init(&b->lock, LOCK_BUDGET);
	b->left = *left;
}

void budget_destroy(struct budget *b)
{
	lock_destroy(&b->lock);
}

void budget_set(struct budget *b, const struct headroom_left *left, bool tight)
{
	lock_take(&b->lock);
	b->left = *left;
	lock_release(&b->lock);
	atomic_store(&b->tight, tight);
}

static struct headroom_left left_now(struct budget *b)
{
	struct headroom_left left;

	lock_take(&b->lock);
	left = b->left;
	lock_release(&b->lock);
	return left;
}

void budget_stat(struct budget *b, struct ramet_family_stat *st)
{
	struct headroom_left now = left_now(b);

	st->headroom_bytes = now.left;
	memcpy(st->headroom_of, now.where, sizeof(st->headroom_of));
}

uint64_t budget_left(struct budget *b)
{
	return left_now(b).left;
}

const char *budget_hint(struct budget *b, char buf[BUDGET_HINT])
{
	struct headroom_left now;

	buf[0] = 0;
	if (!budget_tight(b))
		return buf;
	now = left_now(b);
	snprintf(buf, BUDGET_HINT, ": %s has %llu MiB of its %llu MiB left", now.where,
		(unsigned long long)now.left >> 20, (unsigned long long)now.limit >> 20);
	return buf;
}
