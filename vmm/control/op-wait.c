/* SPDX-License-Identifier: Apache-2.0 */
/* The operation `wait`. */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "vmm/base/clock.h"
#include "vmm/control/ops.h"

/* If there is no descriptor left for an eventfd, the wait looks for the event this often. */
#define SLICE_MS 100

/* UINT64_MAX: never. */
static uint64_t deadline(int64_t timeout_ms)
{
	uint64_t now = now_ns();

	if (timeout_ms < 0 || (uint64_t)timeout_ms > (UINT64_MAX - now) / 1000000)
		return UINT64_MAX;
	return now + (uint64_t)timeout_ms * 1000000;
}

/* Waits until the eventfd is written to (-1: at most SLICE_MS), the deadline has passed, or the
 * client has closed the connection. False: it has. A client that has only shut down its sending
 * side still gets the reply. */
static bool await_event(struct session *s, int event, uint64_t until)
{
	struct pollfd fds[] = {
		{ .fd = event, .events = POLLIN },
		{ .fd = s->wire->fd, .events = 0 },
	};
	uint64_t now = now_ns(), left_ms = now < until ? (until - now + 999999) / 1000000 : 0;
	int timeout = until == UINT64_MAX ? -1 : left_ms < INT_MAX ? (int)left_ms : INT_MAX;
	eventfd_t ignored;

	if (event < 0 && (timeout < 0 || timeout > SLICE_MS))
		timeout = SLICE_MS;
	if (poll(fds, 2, timeout) > 0 && fds[0].revents)
		eventfd_read(event, &ignored);
	return !(fds[1].revents & (POLLHUP | POLLERR));
}

int session_wait(struct session *s, struct ramet_vm *vm, enum ramet_event ev, uint64_t value,
	int64_t timeout_ms)
{
	uint64_t until = deadline(timeout_ms);
	struct ramet_watch watch = { .what = RAMET_WATCH_EVENTS };
	int ret = ramet_wait(vm, ev, value, 0);

	if (ret != -ETIMEDOUT || !timeout_ms)
		return ret;
	watch.event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (watch.event >= 0)
		ramet_watch(vm, &watch);
	for (;;) {
		ret = ramet_wait(vm, ev, value, 0);
		if (ret != -ETIMEDOUT || now_ns() >= until)
			break;
		if (atomic_load(&s->host->closing) || !await_event(s, watch.event, until)) {
			ret = -ECANCELED;
			break;
		}
	}
	if (watch.event >= 0) {
		ramet_unwatch(vm, &watch);
		close(watch.event);
	}
	return ret;
}

/* The event of that name; -1: there is no such event. */
static int event_of(const char *name)
{
	static const char *const events[] = {
		[RAMET_EV_STOPPED] = "stopped",
		[RAMET_EV_READY] = "ready",
		[RAMET_EV_PHASE] = "phase",
		[RAMET_EV_HEARTBEATS] = "heartbeats",
	};

	for (int ev = 0; ev < 4; ev++)
		if (!strcmp(events[ev], name))
			return ev;
	return -1;
}

/* The result of waiting for a VM that is not in the family any more. */
static int ended_before(enum ramet_event ev)
{
	return ev == RAMET_EV_STOPPED ? 0 : -ESRCH;
}

static json_t *wait_reply(const char *name, const struct ramet_stat *st, int ret)
{
	json_t *reply;

	if (ret == -ESRCH)
		return error_json(ret, "VM '%s' stopped before that%s%s", name,
			st->failure[0] ? ": " : "", st->failure);
	if (ret)
		return error_json(ret, "waiting for VM '%s': %s", name,
			ret == -ETIMEDOUT   ? "it did not happen in time"
			: ret == -ECANCELED ? "the family is being stopped"
					    : strerror(-ret));
	reply = ok_json();
	json_put(&reply, "vm", stat_json(st));
	return reply;
}

json_t *op_wait(struct session *s, json_t *req)
{
	const char *name = NULL, *event = NULL;
	int64_t value = 0, timeout_ms = -1;
	const struct request_field fields[] = {
		{ "vm", REQUEST_STRING, .out = &name },
		{ "event", REQUEST_STRING, .out = &event },
		{ "value", REQUEST_INTEGER, true, 0, INT64_MAX, &value },
		{ "timeout_ms", REQUEST_INTEGER, true, INT64_MIN, INT64_MAX, &timeout_ms },
		{ 0 },
	};
	struct ramet_vm *vm;
	struct ramet_stat st;
	json_t *reply;
	int ev, ret;

	if (!request_take(req, fields, &reply))
		return reply;
	ev = event_of(event);
	if (ev < 0)
		return error_json(EINVAL,
			"bad request: there is no event '%.64s'; take 'stopped', 'ready', 'phase' "
			"or "
			"'heartbeats'",
			event);
	vm = session_find(s, name, &reply);
	if (vm) {
		ret = session_wait(s, vm, (enum ramet_event)ev, (uint64_t)value, timeout_ms);
		ramet_vm_stat_quick(vm, &st);
		ramet_vm_put(vm);
	} else if (host_ended(s->host, name, &st, NULL)) {
		json_decref(reply);
		ret = ended_before((enum ramet_event)ev);
	} else {
		return reply;
	}
	return wait_reply(name, &st, ret);
}
