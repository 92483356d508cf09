/* SPDX-License-Identifier: Apache-2.0 */
/* The family's end of the control protocol: sessions, and the table of operations
 * (docs/control.md). */
#include "vmm/control/serve.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "vmm/base/clock.h"
#include "vmm/base/priority.h"
#include "vmm/control/ops.h"

/* How long a client may send no request, or take no reply, in ms. CROWDED: when only reserved
 * places are left. RESERVED: for a client in such a place. */
#define RESERVED_MS	  1000
#define NEW_CROWDED_MS	  2000
#define NEW_MS		  60000
#define IDLE_CROWDED_MS	  10000
#define UNREAD_CROWDED_MS 5000
#define UNREAD_MS	  30000

static const struct request_field none[] = { { 0 } };

static json_t *op_hello(struct session *s, json_t *req)
{
	struct ramet_stat st;
	json_t *reply;
	bool kept;

	if (!request_take(req, none, &reply))
		return reply;
	kept = host_kept(s->host, &st);
	reply = json_pack("{s:b, s:i, s:s, s:s, s:i}", "ok", 1, "protocol", CONTROL_PROTOCOL,
		"version", RAMET_VERSION, "family", s->host->name, "pid", (int)getpid());
	json_put(&reply, "ended", kept ? stat_json(&st) : json_null());
	return reply;
}

static json_t *op_stop_all(struct session *s, json_t *req)
{
	json_t *reply;

	if (!request_take(req, none, &reply))
		return reply;
	/* The process ends as after a SIGTERM. After this reply the client sees the connection end.
	 */
	eventfd_write(s->host->ending, 1);
	eventfd_write(s->host->done, 1);
	return ok_json();
}

static const struct {
	const char *name;
	op_fn *fn;
	bool brief;	/* may be asked for in a reserved place */
	bool unhurried; /* moves as many bytes as the client likes: not at a real-time priority */
} operations[] = {
	{ "hello", op_hello, true, false },
	{ "list", op_list, true, false },
	{ "stat", op_stat, true, false },
	{ "fork", op_fork, false, false },
	{ "pause", op_pause, true, false },
	{ "resume", op_resume, true, false },
	{ "reset", op_reset, true, false },
	{ "stop", op_stop, true, false },
	{ "stop-all", op_stop_all, true, false },
	{ "wait", op_wait, false, false },
	{ "read", op_read, false, true },
	{ "console", op_console, false, true },
};

static json_t *no_place_for(const char *op)
{
	json_t *reply = error_json(EAGAIN,
		"too many clients: the last %u of %u places are kept for brief requests, "
		"not for '%s'; try again later",
		HOST_CLIENTS_RESERVED, HOST_CLIENTS_MAX, op);

	json_put(&reply, "busy", json_true());
	return reply;
}

static json_t *carry_out(struct session *s, json_t *req, op_fn *fn, bool unhurried)
{
	struct hurry hurry;
	json_t *reply;

	if (unhurried)
		hurry = hurry_lower(0);
	reply = fn(s, req);
	if (unhurried)
		hurry_end(&hurry);
	return reply;
}

static json_t *dispatch(struct session *s, json_t *req)
{
	const json_t *op = json_object_get(req, "op");
	const char *name = json_string_value(op);

	for (size_t i = 0; name && i < sizeof(operations) / sizeof(operations[0]); i++) {
		if (strcmp(operations[i].name, name))
			continue;
		if (s->reserved && !operations[i].brief)
			return no_place_for(name);
		return carry_out(s, req, operations[i].fn, operations[i].unhurried);
	}
	if (name)
		return error_json(EPROTO, "bad request: there is no operation '%.64s'", name);
	return error_json(EPROTO, "bad request: 'op' %s",
		op ? "must be a string" : "is missing: the name of an operation");
}

/* How long the client may send no request, in ms; 0: without limit. */
static unsigned patience(const struct session *s)
{
	bool crowded = host_crowded(s->host);

	if (s->reserved)
		return RESERVED_MS;
	if (!s->asked)
		return crowded ? NEW_CROWDED_MS : NEW_MS;
	return crowded ? IDLE_CROWDED_MS : 0;
}

/* Called while the session waits for the client. Returns -errno when the wait must end. */
static int session_idle(void *arg, unsigned quiet_ms, bool sending)
{
	struct session *s = arg;
	unsigned limit;

	if (sending) {
		limit = host_crowded(s->host) ? UNREAD_CROWDED_MS : UNREAD_MS;
		return quiet_ms >= limit ? -ETIMEDOUT : 0;
	}
	if (atomic_load(&s->host->closing))
		return -ECANCELED;
	limit = patience(s);
	return limit && (now_ns() - s->since_ns) / 1000000 >= limit ? -ETIMEDOUT : 0;
}

/* Sends the reply and frees it. If there was no memory to make or to write the reply, sends an
 * error that needs no memory. */
static int answer(struct session *s, json_t *reply)
{
	static const char no_memory[] =
		"{\"ok\":false,\"errno\":12,\"code\":\"ENOMEM\",\"error\":\"out of memory for the "
		"reply; the request may have been carried out\"}\n";
	int err = wire_send(s->wire, reply);

	if (err == -ENOMEM)
		err = wire_send_raw(s->wire, no_memory, sizeof(no_memory) - 1);
	return err;
}

/* Answers a line that is no request, or a silent client. The session ends after this: the bytes
 * that follow a bad line may not start at a new request. */
static void answer_no_request(struct session *s, int err)
{
	if (err == -EPROTO)
		answer(s, error_json(err, "bad request: %s", s->wire->why));
	else if (err == -EMSGSIZE)
		answer(s, error_json(err, "bad request: a line of %u bytes or more",
				  WIRE_REQUEST_MAX));
	else if (err == -ENOMEM)
		answer(s, NULL);
	else if (err == -ETIMEDOUT)
		answer(s, error_json(err, "no request has come for %u ms", patience(s)));
}

static void serve(struct session *s)
{
	while (!s->over && !atomic_load(&s->host->closing)) {
		json_t *req, *reply;
		int err;

		s->since_ns = now_ns();
		err = wire_recv(s->wire, WIRE_REQUEST_MAX, &req);
		if (err) {
			answer_no_request(s, err);
			return;
		}
		s->asked = true;
		s->answered = false;
		reply = dispatch(s, req);
		json_decref(req);
		if (!s->answered && answer(s, reply))
			return;
		s->over |= s->reserved;
		hurry_rest();
	}
}

void control_session(struct host *host, struct wire *wire, bool reserved)
{
	struct session s = { .host = host, .wire = wire, .reserved = reserved };

	wire->idle = session_idle;
	wire->idle_arg = &s;
	serve(&s);
	wire->idle = NULL;
	wire->idle_arg = NULL;
}
