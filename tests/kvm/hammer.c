/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Eight threads call the library's functions at the same time, on one family and on several. Every
 * error must be a possible one, guests that check their memory must find no fault, and at the end
 * all counts are right and nothing is left. The watchdog ends the test if no call returns for ten
 * seconds.
 *
 * RAMET_SOAK_SECONDS: how long each test takes (default 10).
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "tests/kvm/common.h"
#include "tests/kvm/watchdog.h"

#define THREADS	     8
#define FAMILIES_MAX 3
#define SLOTS	     8 /* VMs of a family at a time, or a few more */
#define MEMORY	     (16 * MIB)

static struct nail {
	struct family f;
	pthread_mutex_t lock;
	struct ramet_vm *slot[SLOTS]; /* the first is the root, and stays */
} nails[FAMILIES_MAX];
static unsigned n_nails;
static atomic_bool quit;
static atomic_uint wrong;
static double end;

enum op {
	FORK,
	RESET,
	STOP,
	PAUSE,
	RESUME,
	STAT,
	FAMILY_STAT,
	EACH,
	CHECK,
	READ,
	INPUT,
	WAIT,
	FIND,
	LAUNCH,
	OPS
};
static const char *const op_name[OPS] = { "fork", "reset", "stop", "pause", "resume", "stat",
	"family stat", "each", "check", "read", "input", "wait", "find", "launch" };
static atomic_uint done[OPS];

struct hammer {
	uint64_t seed;
	pthread_t thread;
};

/* rnd() cannot be used by several threads. */
static uint64_t roll(struct hammer *h, uint64_t below)
{
	h->seed ^= h->seed << 13;
	h->seed ^= h->seed >> 7;
	h->seed ^= h->seed << 17;
	return (h->seed >> 11) % below;
}

/* cmocka's checks work only in the main thread. */
static void expect(bool right, enum op op, int ret, const char *what)
{
	if (right)
		return;
	fprintf(stderr, "hammer: %s: %s (%s)\n", op_name[op], what, strerror(-ret));
	atomic_fetch_add(&wrong, 1);
	atomic_store(&quit, true);
}

/* An operation on one VM, which another thread may have stopped. */
static void expect_vm(enum op op, int ret, const struct ramet_err *err)
{
	expect(ret == 0 || ret == -ESRCH, op, ret, err ? err->msg : "");
	expect(!ret || !err || err->msg[0], op, ret, "an error without a word");
}

static struct ramet_vm *pick(struct hammer *h, struct nail *n)
{
	struct ramet_vm *vm;

	pthread_mutex_lock(&n->lock);
	vm = n->slot[roll(h, SLOTS)];
	vm = ramet_vm_get(vm ? vm : n->f.root);
	pthread_mutex_unlock(&n->lock);
	return vm;
}

/* Takes over the reference. The VM that had the slot is stopped. */
static void place(struct hammer *h, struct nail *n, struct ramet_vm *vm)
{
	struct ramet_err err = { "" };
	struct ramet_vm *old;
	unsigned i = 1 + (unsigned)roll(h, SLOTS - 1);
	int r;

	pthread_mutex_lock(&n->lock);
	old = n->slot[i];
	n->slot[i] = vm;
	pthread_mutex_unlock(&n->lock);
	if (!old)
		return;
	r = ramet_stop(old, &err);
	expect(r == 0, STOP, r, err.msg);
	ramet_vm_put(old);
}

static void do_fork(struct hammer *h, struct nail *n, struct ramet_vm *vm)
{
	unsigned count = 1 + (unsigned)roll(h, 3);
	struct ramet_err err = { "" };
	struct ramet_vm *child[3];
	int r = ramet_fork(vm, count, (unsigned)roll(h, 2) * RAMET_FORK_RUN, child, NULL, &err);

	expect_vm(FORK, r, &err);
	for (unsigned i = 0; !r && i < count; i++)
		place(h, n, child[i]);
}

static void do_stat(struct ramet_vm *vm, bool quick)
{
	struct ramet_stat st;

	if (quick)
		ramet_vm_stat_quick(vm, &st);
	else
		ramet_vm_stat(vm, &st);
	expect(!st.report && st.state != RAMET_FAILED, STAT, 0,
		st.failure[0] ? st.failure : st.name);
}

static void do_reset(struct ramet_vm *vm)
{
	struct ramet_err err = { "" };
	int r = ramet_reset(vm, &err);

	if (r != -EINVAL) /* -EINVAL: the VM booted and was not forked yet */
		expect_vm(RESET, r, &err);
}

static void do_pause(enum op op, struct ramet_vm *vm)
{
	struct ramet_err err = { "" };

	expect_vm(op, op == PAUSE ? ramet_pause(vm, &err) : ramet_resume(vm, &err), &err);
}

static void do_wait(struct hammer *h, struct ramet_vm *vm)
{
	int r = ramet_wait(vm, (enum ramet_event)roll(h, 4), roll(h, 1000), (int)roll(h, 20));

	expect(!r || r == -ESRCH || r == -ETIMEDOUT, WAIT, r, "");
}

static int look(void *arg, const struct ramet_stat *st)
{
	expect(!st->report, EACH, 0, st->name);
	return 0;
}

static void do_family(struct nail *n, enum op op)
{
	struct ramet_family_stat st;
	struct ramet_err err = { "" };
	int r = 0;

	if (op == FAMILY_STAT)
		ramet_family_stat_quick(n->f.family, &st);
	else if (op == EACH)
		r = ramet_family_each(n->f.family, look, NULL);
	else
		r = ramet_family_check(n->f.family, &err);
	expect(!r, op, r, err.msg);
}

static void do_read(struct hammer *h, struct ramet_vm *vm)
{
	uint8_t buf[8192];
	int r = ramet_read(vm, roll(h, MEMORY - sizeof(buf)), buf, sizeof(buf));

	expect_vm(READ, r, NULL);
}

static void do_find(struct nail *n)
{
	struct ramet_vm *vm = ramet_find(n->f.family, "verify");

	expect(vm == n->f.root, FIND, 0, "not the one that booted");
	ramet_vm_put(vm);
}

/* Launches and destroys a family beside the others. */
static void do_launch(void)
{
	struct ramet_config cfg = { .guest = "count", .memory = MEMORY, .cpus = 2 };
	struct ramet_err err = { "" };
	struct ramet_family *family;
	struct ramet_vm *vm, *child;
	int r = ramet_launch(&cfg, &family, &vm, &err);

	expect(!r, LAUNCH, r, err.msg);
	if (r)
		return;
	r = ramet_fork(vm, 1, 0, &child, NULL, &err);
	expect(!r, LAUNCH, r, err.msg);
	if (!r)
		ramet_vm_put(child);
	ramet_vm_put(vm);
	ramet_family_destroy(family);
}

/* How often each operation is called: the important ones more often, the slow ones less. */
static enum op choose(struct hammer *h)
{
	static const uint8_t weight[OPS] = { 20, 15, 10, 10, 15, 10, 4, 4, 3, 8, 5, 8, 4, 1 };
	unsigned at = (unsigned)roll(h, 117), op = 0;

	while (at >= weight[op])
		at -= weight[op++];
	return (enum op)op;
}

static void strike(struct hammer *h, struct nail *n, struct ramet_vm *vm, enum op op)
{
	switch (op) {
	case FORK:
		do_fork(h, n, vm);
		break;
	case RESET:
		do_reset(vm);
		break;
	case STOP:
		place(h, n, NULL);
		break;
	case PAUSE:
	case RESUME:
		do_pause(op, vm);
		break;
	case STAT:
		do_stat(vm, roll(h, 2));
		break;
	case READ:
		do_read(h, vm);
		break;
	case INPUT:
		ramet_console_input(vm, "hammer", 6);
		break;
	case WAIT:
		do_wait(h, vm);
		break;
	case FIND:
		do_find(n);
		break;
	case LAUNCH:
		do_launch();
		break;
	default:
		do_family(n, op);
	}
}

static void *hammer(void *arg)
{
	struct hammer *h = arg;

	while (!atomic_load(&quit) && now_s() < end) {
		struct nail *n = &nails[roll(h, n_nails)];
		struct ramet_vm *vm = pick(h, n);
		enum op op = choose(h);

		strike(h, n, vm, op);
		ramet_vm_put(vm);
		atomic_fetch_add(&done[op], 1);
		watchdog_alive();
	}
	return NULL;
}

static void put_in_order(struct nail *n)
{
	struct ramet_err err = { "" };

	assert_ok(ramet_family_check(n->f.family, &err), &err);
	for (unsigned i = 0; i < SLOTS; i++) {
		if (!n->slot[i])
			continue;
		assert_ok(ramet_resume(n->slot[i], &err), &err);
		await_beats(n->slot[i], 2);
		if (i)
			stop_and_put(n->slot[i]);
		else
			ramet_vm_put(n->slot[i]);
		n->slot[i] = NULL;
	}
	finish(&n->f);
	pthread_mutex_destroy(&n->lock);
}

static void run(unsigned families)
{
	struct resources before = resources_now();
	struct hammer h[THREADS];

	n_nails = families;
	for (unsigned i = 0; i < n_nails; i++) {
		nails[i].f = launch("verify", "memory=1M", MEMORY, 1);
		nails[i].slot[0] = ramet_vm_get(nails[i].f.root);
		pthread_mutex_init(&nails[i].lock, NULL);
	}
	watchdog_start(10);
	end = soak_end(10);
	for (unsigned i = 0; i < THREADS; i++) {
		h[i].seed = rnd(UINT64_MAX) | 1;
		assert_int_equal(pthread_create(&h[i].thread, NULL, hammer, &h[i]), 0);
	}
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(h[i].thread, NULL);
	watchdog_start(HANG_SECONDS);
	assert_int_equal(atomic_load(&wrong), 0);
	for (unsigned i = 0; i < n_nails; i++)
		put_in_order(&nails[i]);
	for (unsigned i = 0; i < OPS; i++)
		print_message("%s %u%s", op_name[i], atomic_exchange(&done[i], 0),
			i < OPS - 1 ? ", " : "\n");
	assert_no_leak(before);
}

static void test_one_family(void **state)
{
	run(1);
}

static void test_several_families(void **state)
{
	run(FAMILIES_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_family),
		cmocka_unit_test(test_several_families),
	};

	return kvm_run_tests(tests);
}
