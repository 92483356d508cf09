/* SPDX-License-Identifier: Apache-2.0 */
/* The family's end of the control protocol: a table of operations (docs/control.md). */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "vmm/clock.h"
#include "vmm/control-console.h"
#include "vmm/control-json.h"
#include "vmm/host.h"

#define SLICE_MS      100   /* how long a wait may overlook that its client has left */
#define READY_WAIT_MS 10000 /* for a clone's first sign of life */

struct session {
	struct host *host;
	struct wire *wire;
	bool over; /* the operation took the connection for itself */
};

/* The reply to send; NULL: there is none, or no memory. */
typedef json_t *op_fn(struct session *s, json_t *req);

/* Parses req like json_unpack, refusing fields that are not named. NULL, or the refusal. */
#define UNPACK(req, fmt, ...)                                                                   \
	({                                                                                      \
		json_error_t why_;                                                              \
		json_unpack_ex(req, &why_, JSON_STRICT, "{s:s, " fmt "}", "op", &(char *){ 0 }, \
			__VA_ARGS__)                                                            \
			? error_json(EPROTO, "bad request: %s", why_.text)                      \
			: NULL;                                                                 \
	})

static struct ramet_vm *find(struct session *s, const char *name, json_t **reply)
{
	struct ramet_vm *vm = ramet_find(s->host->family, name);

	if (!vm)
		*reply = error_json(ESRCH,
			"there is no VM '%s' in family '%s' (any more); 'ramet list' shows what "
			"runs",
			name, s->host->name);
	return vm;
}

static bool peer_left(struct session *s)
{
	struct pollfd p = { .fd = s->wire->fd, .events = POLLRDHUP };

	return poll(&p, 1, 0) > 0 && (p.revents & (POLLRDHUP | POLLHUP | POLLERR));
}

/* ramet_wait() that gives up (-ECANCELED) when nobody wants to know any more. */
static int wait_for(struct session *s, struct ramet_vm *vm, enum ramet_event ev, uint64_t value,
	int64_t timeout_ms)
{
	uint64_t until = now_ns() + (uint64_t)timeout_ms * 1000000u;
	int ret;

	do {
		int64_t left = timeout_ms < 0 ? SLICE_MS : (int64_t)(until - now_ns()) / 1000000;

		if (left < 0)
			left = 0;
		ret = ramet_wait(vm, ev, value, (int)(left < SLICE_MS ? left : SLICE_MS));
		if (ret != -ETIMEDOUT || (timeout_ms >= 0 && now_ns() >= until))
			return ret;
	} while (!atomic_load(&s->host->closing) && !peer_left(s));
	return -ECANCELED;
}

static int append_stat(void *arg, const struct ramet_stat *st)
{
	return json_array_append_new(arg, stat_json(st));
}

static json_t *op_list(struct session *s, json_t *req)
{
	json_t *vms = json_array(), *reply = ok_json();
	struct ramet_family_stat fs;

	ramet_family_each(s->host->family, append_stat, vms);
	ramet_family_stat(s->host->family, &fs);
	json_object_set_new(reply, "vms", vms);
	json_object_set_new(reply, "family", family_json(&fs));
	return reply;
}

static json_t *op_stat(struct session *s, json_t *req)
{
	const char *name = NULL;
	json_t *reply = UNPACK(req, "s:s", "vm", &name);
	struct ramet_vm *vm = reply ? NULL : find(s, name, &reply);
	struct ramet_family_stat fs;
	struct ramet_stat st;

	if (!vm)
		return reply;
	ramet_vm_stat(vm, &st);
	ramet_vm_put(vm);
	ramet_family_stat(s->host->family, &fs);
	reply = ok_json();
	json_object_set_new(reply, "vm", stat_json(&st));
	json_object_set_new(reply, "family", family_json(&fs));
	return reply;
}

static void add_clones(
	struct session *s, json_t *reply, struct ramet_vm **children, unsigned n, bool wait)
{
	json_t *clones = json_array();
	struct ramet_stat st;

	for (unsigned i = 0; i < n; i++) {
		ramet_vm_stat_quick(children[i], &st);
		if (wait && st.state == RAMET_RUNNING)
			wait_for(s, children[i], RAMET_EV_READY, 0, READY_WAIT_MS);
		ramet_vm_stat(children[i], &st);
		json_array_append_new(clones, stat_json(&st));
	}
	json_object_set_new(reply, "clones", clones);
}

struct fork_request {
	json_int_t count;
	int run, wait, memory;
};

static json_t *fork_vm(struct session *s, struct ramet_vm *vm, const struct fork_request *r)
{
	unsigned n = (unsigned)r->count;
	struct ramet_vm **children = calloc(n, sizeof(struct ramet_vm *));
	json_t *reply, *before = r->memory && children ? memory_json(s->host->family, vm) : NULL;
	struct ramet_fork_times t;
	struct ramet_err err = { "out of memory" };
	int ret = children ? ramet_fork(vm, n, r->run ? RAMET_FORK_RUN : 0, children, &t, &err)
			   : -ENOMEM;

	if (ret) {
		free(children);
		json_decref(before);
		return error_json(ret, "%s", err.msg);
	}
	reply = ok_json();
	json_object_set_new(reply, "pause_ns", json_integer((json_int_t)t.pause_ns));
	json_object_set_new(
		reply, "return_ns", json_integer((json_int_t)(t.return_ns - t.request_ns)));
	add_clones(s, reply, children, n, r->wait);
	if (before) {
		json_object_set_new(reply, "before", before);
		json_object_set_new(reply, "after", memory_json(s->host->family, vm));
	}
	ret = host_add(s->host, children, n);
	if (ret) {
		/* Nobody would notice the clones stopping: better none of them. */
		for (unsigned i = 0; i < n; i++) {
			ramet_stop(children[i], NULL);
			ramet_vm_put(children[i]);
		}
		json_decref(reply);
		reply = error_json(ret, "out of memory");
	}
	free(children);
	return reply;
}

static json_t *op_fork(struct session *s, json_t *req)
{
	const char *name = NULL;
	struct fork_request r = { .count = 1, .wait = 1 };
	json_t *reply = UNPACK(req, "s:s, s?:I, s?:b, s?:b, s?:b", "vm", &name, "count", &r.count,
		"run", &r.run, "wait", &r.wait, "memory", &r.memory);
	struct ramet_vm *vm;

	if (!reply && (r.count < 1 || r.count > RAMET_FORK_MAX))
		reply = error_json(EINVAL, "count must be 1 to %u", RAMET_FORK_MAX);
	vm = reply ? NULL : find(s, name, &reply);
	if (!vm)
		return reply;
	reply = fork_vm(s, vm, &r);
	ramet_vm_put(vm);
	return reply;
}

static json_t *call(
	struct session *s, json_t *req, int (*fn)(struct ramet_vm *vm, struct ramet_err *err))
{
	const char *name = NULL;
	struct ramet_err err = { "" };
	json_t *reply = UNPACK(req, "s:s", "vm", &name);
	struct ramet_vm *vm = reply ? NULL : find(s, name, &reply);
	int ret;

	if (!vm)
		return reply;
	ret = fn(vm, &err);
	ramet_vm_put(vm);
	return ret ? error_json(ret, "%s", err.msg[0] ? err.msg : strerror(-ret)) : ok_json();
}

static json_t *op_pause(struct session *s, json_t *req)
{
	return call(s, req, ramet_pause);
}

static json_t *op_resume(struct session *s, json_t *req)
{
	return call(s, req, ramet_resume);
}

static json_t *op_reset(struct session *s, json_t *req)
{
	return call(s, req, ramet_reset);
}

static json_t *op_stop(struct session *s, json_t *req)
{
	return call(s, req, ramet_stop);
}

static json_t *op_stop_all(struct session *s, json_t *req)
{
	/* The process leaves as if by SIGTERM; the client sees the connection end after this. */
	eventfd_write(s->host->done, 1);
	return ok_json();
}

static json_t *op_wait(struct session *s, json_t *req)
{
	static const char *const events[] = {
		[RAMET_EV_STOPPED] = "stopped",
		[RAMET_EV_READY] = "ready",
		[RAMET_EV_PHASE] = "phase",
		[RAMET_EV_HEARTBEATS] = "heartbeats",
	};
	const char *name = NULL, *event = NULL;
	json_int_t value = 0, timeout = -1;
	json_t *reply = UNPACK(req, "s:s, s:s, s?:I, s?:I", "vm", &name, "event", &event, "value",
		&value, "timeout_ms", &timeout);
	struct ramet_vm *vm = reply ? NULL : find(s, name, &reply);
	struct ramet_stat st;
	unsigned ev = 0;
	int ret;

	if (!vm)
		return reply;
	while (ev < 4 && strcmp(events[ev], event))
		ev++;
	ret = ev < 4 ? wait_for(s, vm, (enum ramet_event)ev, (uint64_t)value, timeout) : -EINVAL;
	ramet_vm_stat_quick(vm, &st);
	ramet_vm_put(vm);
	if (ret == -EINVAL)
		return error_json(ret, "there is no event '%s'", event);
	if (ret == -ESRCH)
		return error_json(ret, "VM '%s' stopped before that%s%s", name,
			st.failure[0] ? ": " : "", st.failure);
	if (ret)
		return error_json(ret, "waiting for VM '%s': %s", name,
			ret == -ETIMEDOUT ? "it did not happen in time" : strerror(-ret));
	reply = ok_json();
	json_object_set_new(reply, "vm", stat_json(&st));
	return reply;
}

static bool all_zero(const char *buf, size_t len)
{
	return !len || (!buf[0] && !memcmp(buf, buf + 1, len - 1));
}

static json_t *read_chunk(struct session *s, struct ramet_vm *vm, uint64_t gpa, size_t size)
{
	char *buf = malloc(size);
	int ret = buf ? ramet_read(vm, gpa, buf, size) : -ENOMEM;
	bool zero = !ret && all_zero(buf, size);
	json_t *reply = ret == -EFAULT ? error_json(ret, "not all of that is guest RAM")
			: ret ? error_json(ret, "cannot read guest memory: %s", strerror(-ret))
			      : json_pack("{s:b, s:b}", "ok", 1, "zero", zero);

	if (!ret && !zero) {
		s->over = wire_send(s->wire, reply) || wire_send_raw(s->wire, buf, size);
		reply = NULL;
	}
	free(buf);
	return reply;
}

static json_t *op_read(struct session *s, json_t *req)
{
	const char *name = NULL;
	json_int_t gpa = 0, size = 0;
	json_t *reply = UNPACK(req, "s:s, s:I, s:I", "vm", &name, "gpa", &gpa, "size", &size);
	struct ramet_vm *vm;

	if (!reply && (gpa < 0 || size < 1 || size > WIRE_CHUNK_MAX))
		reply = error_json(EINVAL, "size must be 1 to %u", WIRE_CHUNK_MAX);
	vm = reply ? NULL : find(s, name, &reply);
	if (!vm)
		return reply;
	reply = read_chunk(s, vm, (uint64_t)gpa, (size_t)size);
	ramet_vm_put(vm);
	return reply;
}

static json_t *op_console(struct session *s, json_t *req)
{
	const char *name = NULL;
	json_t *reply = UNPACK(req, "s:s", "vm", &name);
	struct ramet_vm *vm = reply ? NULL : find(s, name, &reply);

	if (!vm)
		return reply;
	s->over = true;
	if (!wire_send(s->wire, ok_json()))
		control_console(s->host, s->wire->fd, vm);
	ramet_vm_put(vm);
	return NULL;
}

static const struct {
	const char *name;
	op_fn *fn;
} ops[] = {
	{ "list", op_list },
	{ "stat", op_stat },
	{ "fork", op_fork },
	{ "pause", op_pause },
	{ "resume", op_resume },
	{ "reset", op_reset },
	{ "stop", op_stop },
	{ "stop-all", op_stop_all },
	{ "wait", op_wait },
	{ "read", op_read },
	{ "console", op_console },
};

static json_t *dispatch(struct session *s, json_t *req)
{
	const char *name = json_string_value(json_object_get(req, "op"));

	for (size_t i = 0; name && i < sizeof(ops) / sizeof(ops[0]); i++)
		if (!strcmp(ops[i].name, name))
			return ops[i].fn(s, req);
	return error_json(EPROTO, "bad request: there is no operation '%s'", name ? name : "");
}

void control_session(struct host *host, struct wire *wire)
{
	struct session s = { .host = host, .wire = wire };

	while (!s.over && !atomic_load(&host->closing)) {
		json_t *req, *reply;
		int err = wire_recv(wire, WIRE_REQUEST_MAX, &req);

		if (err == -EPROTO || err == -EMSGSIZE) {
			/* What follows cannot be trusted to start at a request. */
			if (err == -EMSGSIZE)
				wire_send(wire,
					error_json(err, "bad request: a line of %u bytes or more",
						WIRE_REQUEST_MAX));
			else
				wire_send(wire, error_json(err, "bad request: %s", wire->why));
			return;
		}
		if (err)
			return;
		reply = dispatch(&s, req);
		json_decref(req);
		if (reply && wire_send(wire, reply))
			return;
	}
}
