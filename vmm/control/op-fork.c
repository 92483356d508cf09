/* SPDX-License-Identifier: Apache-2.0 */
/* The operation `fork`. Its reply tells when each clone came to life. */
#include <errno.h>
#include <stdlib.h>

#include "vmm/base/clock.h"
#include "vmm/control/ops.h"

#define READY_WAIT_MS	  10000 /* for the first sign of life of all clones */
#define READY_WAIT_MAX_MS 3600000

struct fork_request {
	const char *vm;
	int64_t count, ready_timeout_ms;
	bool run, wait, memory;
};

/* Waits until every clone that should run has run. All clones share one timeout. Returns the number
 * of clones that had not run by then. */
static unsigned await_clones(
	struct session *s, const struct fork_request *r, struct ramet_vm **clones)
{
	uint64_t until = now_ns() + (uint64_t)r->ready_timeout_ms * 1000000;
	struct ramet_stat st;
	unsigned silent = 0;

	for (int64_t i = 0; i < r->count; i++) {
		uint64_t now = now_ns();
		int ret;

		ramet_vm_stat_quick(clones[i], &st);
		if (st.state != RAMET_RUNNING)
			continue;
		ret = session_wait(s, clones[i], RAMET_EV_READY, 0,
			now < until ? (int64_t)((until - now) / 1000000) : 0);
		silent += ret == -ETIMEDOUT || ret == -ECANCELED;
		if (ret == -ECANCELED)
			until = 0; /* the client has left: do not wait for the other clones */
	}
	return silent;
}

/* Takes no time that grows with the clones' memory, unless the client asks to count it. */
static json_t *clones_json(const struct fork_request *r, struct ramet_vm **clones)
{
	json_t *array = json_array();
	struct ramet_stat st;

	for (int64_t i = 0; i < r->count && array; i++) {
		if (r->memory)
			ramet_vm_stat(clones[i], &st);
		else
			ramet_vm_stat_born(clones[i], &st);
		json_append(&array, stat_json(&st));
	}
	return array;
}

static json_t *fork_reply(struct session *s, const struct fork_request *r, struct ramet_vm **clones,
	const struct ramet_fork_times *t)
{
	json_t *reply = ok_json();
	unsigned silent;

	json_put(&reply, "pause_ns", json_integer((json_int_t)t->pause_ns));
	json_put(&reply, "return_ns", json_integer((json_int_t)(t->return_ns - t->request_ns)));
	if (r->wait) {
		silent = await_clones(s, r, clones);
		json_put(&reply, "not_ready", json_integer(silent));
		json_put(&reply, "ready_timeout_ms", json_integer(r->ready_timeout_ms));
	}
	json_put(&reply, "clones", clones_json(r, clones));
	return reply;
}

static json_t *fork_vm(struct session *s, struct ramet_vm *vm, const struct fork_request *r)
{
	struct ramet_vm **clones = calloc((size_t)r->count, sizeof(*clones));
	json_t *reply, *before = r->memory && clones ? memory_json(s->host->family, vm) : NULL;
	struct ramet_err err = { "out of memory" };
	struct ramet_fork_times t;
	int ret = -ENOMEM;

	if (clones)
		ret = ramet_fork(
			vm, (unsigned)r->count, r->run ? RAMET_FORK_RUN : 0, clones, &t, &err);
	if (ret) {
		free(clones);
		json_decref(before);
		return error_json(ret, "%s", err.msg);
	}
	reply = fork_reply(s, r, clones, &t);
	if (r->memory) {
		json_put(&reply, "before", before);
		json_put(&reply, "after", memory_json(s->host->family, vm));
	}
	for (int64_t i = 0; i < r->count; i++)
		ramet_vm_put(clones[i]);
	free(clones);
	return reply;
}

json_t *op_fork(struct session *s, json_t *req)
{
	struct fork_request r = { .count = 1, .wait = true, .ready_timeout_ms = READY_WAIT_MS };
	const struct request_field fields[] = {
		{ "vm", REQUEST_STRING, .out = &r.vm },
		{ "count", REQUEST_INTEGER, true, 1, RAMET_FORK_MAX, &r.count },
		{ "run", REQUEST_BOOLEAN, true, .out = &r.run },
		{ "wait", REQUEST_BOOLEAN, true, .out = &r.wait },
		{ "ready_timeout_ms", REQUEST_INTEGER, true, 0, READY_WAIT_MAX_MS,
			&r.ready_timeout_ms },
		{ "memory", REQUEST_BOOLEAN, true, .out = &r.memory },
		{ 0 },
	};
	struct ramet_vm *vm;
	json_t *reply;

	if (!request_take(req, fields, &reply))
		return reply;
	vm = session_find(s, r.vm, &reply);
	if (!vm)
		return reply;
	reply = fork_vm(s, vm, &r);
	ramet_vm_put(vm);
	return reply;
}
