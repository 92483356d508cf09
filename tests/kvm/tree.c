/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/kvm/tree.h"

#include <errno.h>
#include <string.h>

static bool told(struct tree *t, int ret, const struct ramet_err *err)
{
	if (!ret)
		return true;
	if (!t->starved || ret == -EINVAL)
		fail_msg("%s: %s", strerror(-ret), err->msg);
	assert_true(strlen(err->msg) > 0);
	t->errors++;
	return false;
}

/* Checks that the VM is alive and right, or, in a starved tree, has failed with a reason. False: it
 * must be removed. */
static bool fine(struct tree *t, struct ramet_vm *vm)
{
	struct ramet_stat st;

	ramet_vm_stat_quick(vm, &st);
	if (st.report)
		fail_msg("%s: report %u at %#lx, state %d, exit status %d, %lu heartbeats, birth "
			 "%lu: %s",
			st.name, st.report, st.report_gpa, st.state, st.exit_status, st.heartbeats,
			st.births, st.failure);
	if (st.state == RAMET_RUNNING || st.state == RAMET_PAUSED)
		return true;
	if (!t->starved || st.state != RAMET_FAILED || !st.failure[0])
		fail_msg("%s: state %d (%s), exit status %d", st.name, st.state, st.failure,
			st.exit_status);
	t->errors++;
	return false;
}

void tree_drop(struct tree *t, unsigned i)
{
	stop_and_put(t->live[i]);
	t->live[i] = t->live[--t->n];
}

static void do_fork(struct tree *t, unsigned i)
{
	unsigned n = 1 + (unsigned)rnd(MAX_CHILDREN);
	struct ramet_err err = { "" };

	if (t->n >= LIVE_MAX)
		return;
	if (!told(t, ramet_fork(t->live[i], n, 0, t->live + t->n, NULL, &err), &err))
		return;
	t->n += n;
	t->forks++;
}

static void do_reset(struct tree *t, unsigned i)
{
	struct ramet_err err = { "" };
	int r = ramet_reset(t->live[i], &err);

	if (r != -EINVAL && told(t, r, &err)) /* the one that booted has no birth */
		t->resets++;
}

static void do_pause(struct tree *t, unsigned i)
{
	struct ramet_err err = { "" };

	if (!told(t, ramet_pause(t->live[i], &err), &err))
		return;
	if (rnd(3) == 0)
		do_fork(t, i); /* its children are paused, too */
	rnd_sleep(3000);
	for (unsigned k = 0; k < t->n; k++)
		told(t, ramet_resume(t->live[k], &err), &err);
}

static void do_read(struct tree *t, unsigned i)
{
	uint8_t buf[8192];
	int r = ramet_read(t->live[i], rnd(8 * MIB), buf, sizeof(buf));

	if (r && !t->starved)
		fail_msg("reading: %s", strerror(-r));
}

void tree_step(struct tree *t)
{
	unsigned i = (unsigned)rnd(t->n);

	switch (rnd(10)) {
	case 0:
	case 1:
		do_reset(t, i);
		break;
	case 2:
		do_pause(t, i);
		break;
	case 3:
		do_read(t, i);
		break;
	case 4:
	case 5:
	case 6:
		if (t->n > 1) {
			tree_drop(t, i);
			break;
		}
		/* fall through */
	default:
		do_fork(t, i);
	}
	for (unsigned k = t->n; k-- > 0;)
		if (!fine(t, t->live[k]) && t->n > 1)
			tree_drop(t, k);
}

void tree_start(struct tree *t, struct ramet_config *cfg, bool starved)
{
	*t = (struct tree){ .f = launch_config(cfg), .starved = starved };
	t->live[t->n++] = ramet_vm_get(t->f.root);
}

void tree_check(struct tree *t)
{
	struct ramet_err err = { "" };

	assert_ok(ramet_family_check(t->f.family, &err), &err);
}

void tree_end(struct tree *t)
{
	struct ramet_family_stat st;

	tree_check(t);
	while (t->n > 1)
		tree_drop(t, 0);
	tree_check(t);
	ramet_family_stat(t->f.family, &st);
	print_message("%u forks, %u resets, %u errors; left: %lu generations, %lu KiB of frames, "
		      "%lu tables\n",
		t->forks, t->resets, t->errors, st.generations, st.pool_bytes >> 10, st.tables);
	assert_true(st.generations <= 3); /* its birth, its home, one that is being freed */
	tree_drop(t, 0);
	finish(&t->f);
}
