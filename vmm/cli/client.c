/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/cli/client.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/clock.h"
#include "vmm/cli/command.h"

/* How long a brief request may take, in ms. */
#define LOOK_MS	 2000  /* then check the process; if it is stopped, give up at once */
#define HELLO_MS 10000 /* if the process answers no connection */
#define BRIEF_MS 60000 /* if the process answers other connections */
#define BUSY_MS	 5000  /* wait this long for a free place for one more client */

static int open_client(struct client *c, const char *vm_name);

/* ---- does the process answer? ---- */

static int say(const struct client *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static int say(const struct client *c, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (!c->quiet)
		complain("%s", text);
	return EXIT_TROUBLE;
}

/* True if /proc shows that a signal or a debugger has stopped the process. */
static bool is_stopped(int pid)
{
	char path[32], stat[128], *end;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	f = pid ? fopen(path, "re") : NULL;
	if (!f)
		return false;
	/* "1234 (name) T ..." */
	end = fgets(stat, sizeof(stat), f) ? strrchr(stat, ')') : NULL;
	fclose(f);
	return end && (end[2] == 'T' || end[2] == 't');
}

static unsigned since_ms(uint64_t ns)
{
	return (unsigned)((now_ns() - ns) / 1000000);
}

static int hello_idle(void *arg, unsigned quiet_ms, bool sending)
{
	return quiet_ms >= LOOK_MS ? -ETIMEDOUT : 0;
}

/* Asks on a separate connection. A refusal because of too many clients is an answer, too. */
static json_t *hello(const char *family)
{
	struct client c = { .quiet = true };
	json_t *reply = NULL;

	if (open_client(&c, family))
		return NULL;
	c.wire.idle = hello_idle;
	if (wire_send(&c.wire, json_pack("{s:s}", "op", "hello")) != -ENOMEM)
		wire_recv(&c.wire, WIRE_REPLY_MAX, &reply);
	client_close(&c);
	return reply;
}

static int give_up(const struct client *c, bool stopped, bool answers)
{
	if (stopped)
		say(c,
			"family '%s' does not answer: its process %d is stopped; 'kill -CONT %d' "
			"lets "
			"it go on",
			c->family, c->pid, c->pid);
	else if (answers)
		say(c,
			"family '%s' has not answered for %u s, although its process %d lives and "
			"answers others",
			c->family, BRIEF_MS / 1000, c->pid);
	else
		say(c,
			"family '%s' does not answer (process %d); is it still being launched, or "
			"does "
			"it hang?",
			c->family, c->pid);
	return -ETIMEDOUT;
}

/* Called while there is no answer. */
static int client_idle(void *arg, unsigned quiet_ms, bool sending)
{
	struct client *c = arg;
	unsigned waited = since_ms(c->asked_ns);
	bool stopped, answers = false;

	if (waited < LOOK_MS || since_ms(c->looked_ns) < LOOK_MS)
		return 0;
	stopped = is_stopped(c->pid);
	if (!stopped) {
		json_t *reply = hello(c->family);

		answers = reply;
		json_decref(reply);
	}
	c->looked_ns = now_ns();
	if (c->brief && (stopped || waited >= (answers ? BRIEF_MS : HELLO_MS)))
		return give_up(c, stopped, answers);
	if (!answers && !c->told) {
		c->told = true;
		say(c, "family '%s' does not answer%s (process %d); waiting, Ctrl-C ends that",
			c->family, stopped ? ", since it is stopped" : " yet", c->pid);
	}
	return 0;
}

/* ---- requests ---- */

/* False for requests that may take long, or for which the user expects to wait. */
static bool is_brief(const json_t *req)
{
	static const char *const lasting[] = { "fork", "wait", "read", "console", "stop",
		"stop-all" };
	const char *op = json_string_value(json_object_get(req, "op"));

	for (unsigned i = 0; i < sizeof(lasting) / sizeof(lasting[0]); i++)
		if (!strcmp(lasting[i], op))
			return false;
	return true;
}

static int connect_to_family(struct client *c)
{
	struct ramet_err err;
	int dir = rundir_open(&err), fd = dir < 0 ? dir : rundir_connect(dir, c->family, &err);

	if (dir >= 0)
		close(dir);
	if (fd < 0) {
		c->error = fd;
		return say(c, "%s", err.msg);
	}
	wire_init(&c->wire, fd);
	c->pid = peer_pid(fd);
	c->wire.idle = client_idle;
	c->wire.idle_arg = c;
	c->looked_ns = c->asked_ns = now_ns();
	return EXIT_OK;
}

static int open_client(struct client *c, const char *vm_name)
{
	c->error = -EINVAL;
	if (!family_of(vm_name, c->family))
		return say(c, "'%s' cannot be a VM's name; 'ramet list' shows what runs", vm_name);
	return connect_to_family(c);
}

int client_open(struct client *c, const char *vm_name)
{
	*c = (struct client){ .quiet = false };
	return open_client(c, vm_name);
}

void client_close(struct client *c)
{
	close(c->wire.fd);
	wire_free(&c->wire);
}

/* Sends one line and receives one. NULL: an error, which has been printed. */
static json_t *exchange(struct client *c, json_t *req)
{
	json_t *reply = NULL;
	int err;

	c->brief = is_brief(req);
	c->told = false;
	c->asked_ns = c->looked_ns = now_ns();
	err = wire_send(&c->wire, req);
	/* A refusal may have been sent before the connection broke. */
	if (!err || err == -ENODATA)
		err = wire_recv(&c->wire, WIRE_REPLY_MAX, &reply);
	if (err == -ENODATA || (err == -EPROTO && c->wire.ended))
		say(c, "the process of family '%s' ended before it answered", c->family);
	else if (err && err != -ETIMEDOUT) /* a timeout has been printed already */
		say(c, "talking to family '%s': %s", c->family, strerror(-err));
	return reply;
}

json_t *client_call(struct client *c, json_t *req)
{
	uint64_t start = now_ns();
	json_t *reply = exchange(c, json_incref(req));
	const char *why;

	/* Refused because other clients have all places. */
	while (reply && json_is_true(json_object_get(reply, "busy")) && c->pid &&
		since_ms(start) < BUSY_MS) {
		json_decref(reply);
		reply = NULL;
		poll(NULL, 0, 100);
		client_close(c);
		if (!connect_to_family(c))
			reply = exchange(c, json_incref(req));
	}
	json_decref(req);
	if (!reply || json_is_true(json_object_get(reply, "ok")))
		return reply;
	why = json_string_value(json_object_get(reply, "error"));
	say(c, "%s", why ? why : "the request failed");
	json_decref(reply);
	return NULL;
}

json_t *client_ask(const char *vm_name, json_t *req)
{
	struct client c;
	json_t *reply;

	if (client_open(&c, vm_name)) {
		json_decref(req);
		return NULL;
	}
	reply = client_call(&c, req);
	client_close(&c);
	return reply;
}

bool client_kept(const char *family, char *why, size_t len)
{
	json_t *reply = hello(family), *vm = json_object_get(reply, "ended");
	const char *name = json_string_value(json_object_get(vm, "name"));
	const char *failure = json_string_value(json_object_get(vm, "failure"));

	if (name && failure)
		snprintf(why, len, "VM '%s' failed: %s", name, failure);
	else if (name)
		snprintf(why, len, "VM '%s' ended with status %u", name,
			(unsigned)reply_u64(vm, "exit_status"));
	json_decref(reply);
	return name;
}

uint64_t reply_u64(const json_t *obj, const char *key)
{
	return (uint64_t)json_integer_value(json_object_get(obj, key));
}

void json_print(json_t *obj)
{
	json_dumpf(obj, stdout, JSON_INDENT(2));
	putchar('\n');
	json_decref(obj);
}
