/* SPDX-License-Identifier: Apache-2.0 */
/* The family's end of the control protocol: sessions, and the table of operations
 * (docs/control.md). */
#include "vmm/control.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

static const struct request_field none[] = { { 0 } };

struct ramet_vm *session_find(struct session *s, const char *name, json_t **refusal)
{
	struct ramet_vm *vm = ramet_find(s->host->family, name);

	if (!vm)
		*refusal = error_json(ESRCH,
			"there is no VM '%s' in family '%s' (any more); 'ramet list' shows what "
			"runs",
			name, s->host->name);
	return vm;
}

static json_t *op_hello(struct session *s, json_t *req)
{
	json_t *reply;

	if (!request_take(req, none, &reply))
		return reply;
	return json_pack("{s:b, s:i, s:s, s:s, s:i}", "ok", 1, "protocol", CONTROL_PROTOCOL,
		"version", RAMET_VERSION, "family", s->host->name, "pid", (int)getpid());
}

static json_t *op_stop_all(struct session *s, json_t *req)
{
	json_t *reply;

	if (!request_take(req, none, &reply))
		return reply;
	/* The process leaves as if by SIGTERM; the client sees the connection end after this. */
	eventfd_write(s->host->done, 1);
	return ok_json();
}

static const struct {
	const char *name;
	op_fn *fn;
} ops[] = {
	{ "hello", op_hello },
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
	const json_t *op = json_object_get(req, "op");
	const char *name = json_string_value(op);

	for (size_t i = 0; name && i < sizeof(ops) / sizeof(ops[0]); i++)
		if (!strcmp(ops[i].name, name))
			return ops[i].fn(s, req);
	if (name)
		return error_json(EPROTO, "bad request: there is no operation '%.64s'", name);
	return error_json(EPROTO, "bad request: 'op' %s",
		op ? "must be a string" : "is missing: the name of an operation");
}

/* Sends the reply, and drops it. NULL: what does not need memory. */
static int answer(struct session *s, json_t *reply)
{
	static const char no_memory[] =
		"{\"ok\":false,\"errno\":12,\"code\":\"ENOMEM\",\"error\":\"out of memory for the "
		"reply; what was asked for may have been done\"}\n";
	int err = wire_send(s->wire, reply);

	if (err == -ENOMEM)
		err = wire_send_raw(s->wire, no_memory, sizeof(no_memory) - 1);
	return err;
}

/* What follows cannot be trusted to start at a request. */
static void answer_rubbish(struct session *s, int err)
{
	if (err == -EPROTO)
		answer(s, error_json(err, "bad request: %s", s->wire->why));
	else if (err == -EMSGSIZE)
		answer(s, error_json(err, "bad request: a line of %u bytes or more",
				  WIRE_REQUEST_MAX));
	else if (err == -ENOMEM)
		answer(s, NULL);
}

void control_session(struct host *host, struct wire *wire)
{
	struct session s = { .host = host, .wire = wire };

	while (!s.over && !atomic_load(&host->closing)) {
		json_t *req, *reply;
		int err = wire_recv(wire, WIRE_REQUEST_MAX, &req);

		if (err) {
			answer_rubbish(&s, err);
			return;
		}
		s.answered = false;
		reply = dispatch(&s, req);
		json_decref(req);
		if (!s.answered && answer(&s, reply))
			return;
	}
}
