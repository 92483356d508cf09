/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/control/wire.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "vmm/base/clock.h"

void wire_init(struct wire *w, int fd)
{
	*w = (struct wire){ .fd = fd };
}

void wire_free(struct wire *w)
{
	free(w->buf);
	*w = (struct wire){ .fd = -1 };
}

/* Waits until the socket is ready for `events` or has failed, or idle() ends the wait. */
static int wait_for(struct wire *w, short events)
{
	struct pollfd p = { .fd = w->fd, .events = events };
	uint64_t start = now_ns();

	for (;;) {
		unsigned quiet_ms = (unsigned)((now_ns() - start) / 1000000);
		int n, err = w->idle ? w->idle(w->idle_arg, quiet_ms, events == POLLOUT) : 0;

		if (err)
			return err;
		n = poll(&p, 1, w->idle ? WIRE_TICK_MS : -1);
		if (n > 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return -errno;
	}
}

/* Receives at least one byte, at most len. -ENODATA: the peer will send no more. */
static ssize_t receive(struct wire *w, void *buf, size_t len)
{
	for (;;) {
		ssize_t n = recv(w->fd, buf, len, MSG_DONTWAIT);
		int err;

		if (n > 0)
			return n;
		if (n == 0 || errno == ECONNRESET)
			return -ENODATA;
		if (errno != EAGAIN && errno != EINTR)
			return -errno;
		err = wait_for(w, POLLIN);
		if (err)
			return err;
	}
}

/* Receives some more bytes; the buffer grows up to `max`. */
static int fill(struct wire *w, size_t max)
{
	ssize_t n;

	if (w->have == w->cap) {
		size_t cap = w->cap ? 2 * w->cap : 4096;
		char *buf;

		if (w->have >= max)
			return -EMSGSIZE;
		buf = realloc(w->buf, cap);
		if (!buf)
			return -ENOMEM;
		w->buf = buf;
		w->cap = cap;
	}
	n = receive(w, w->buf + w->have, w->cap - w->have);
	if (n < 0)
		return (int)n;
	w->have += (size_t)n;
	return 0;
}

static void consume(struct wire *w, size_t len)
{
	w->have -= len;
	memmove(w->buf, w->buf + len, w->have);
}

/* The length of the line at the start of the buffer, or -errno. */
static ssize_t receive_line(struct wire *w, size_t max)
{
	size_t seen = 0;
	char *nl;
	int err;

	while (!(nl = w->have ? memchr(w->buf + seen, '\n', w->have - seen) : NULL)) {
		seen = w->have;
		err = fill(w, max);
		w->ended = err == -ENODATA;
		if (w->ended && w->have)
			return (ssize_t)w->have;
		if (err)
			return err;
	}
	return nl - w->buf;
}

static const char *why_not(const json_error_t *e)
{
	switch (json_error_code(e)) {
	case json_error_duplicate_key:
		return "it has the same key twice";
	case json_error_numeric_overflow:
		return "it has a number that is too large";
	default:
		return "it is not a JSON object on a line";
	}
}

int wire_recv(struct wire *w, size_t max, json_t **out)
{
	ssize_t len = receive_line(w, max);
	json_error_t e;
	json_t *obj;

	if (len < 0)
		return (int)len;
	if ((size_t)len >= max)
		return -EMSGSIZE;
	obj = json_loadb(w->buf, (size_t)len, JSON_REJECT_DUPLICATES, &e);
	/* When memory runs out, jansson may report json_error_unknown. No other error has that
	 * code. */
	if (!obj && json_error_code(&e) <= json_error_out_of_memory)
		return -ENOMEM;
	consume(w, (size_t)len + ((size_t)len < w->have));
	if (!json_is_object(obj)) {
		w->why = obj ? "it is not a JSON object" : why_not(&e);
		json_decref(obj);
		return -EPROTO;
	}
	*out = obj;
	return 0;
}

int wire_recv_raw(struct wire *w, void *buf, size_t len)
{
	size_t n = w->have < len ? w->have : len;
	char *p = buf;

	if (n) {
		memcpy(p, w->buf, n);
		consume(w, n);
	}
	while (n < len) {
		ssize_t got = receive(w, p + n, len - n);

		if (got < 0)
			return (int)got;
		n += (size_t)got;
	}
	return 0;
}

int wire_send_raw(struct wire *w, const void *buf, size_t len)
{
	const char *p = buf;

	while (len) {
		ssize_t n = send(w->fd, p, len, MSG_NOSIGNAL | MSG_DONTWAIT);
		int err = n >= 0 ? 0 : errno;

		if (err == EAGAIN)
			err = -wait_for(w, POLLOUT);
		if (err && err != EINTR)
			return err == EPIPE || err == ECONNRESET ? -ENODATA : -err;
		if (n > 0) {
			p += n;
			len -= (size_t)n;
		}
	}
	return 0;
}

/* A line that is being built. */
struct line {
	char *text;
	size_t len, cap;
	bool failed; /* out of memory: jansson does not report every failure */
};

static int line_add(const char *text, size_t len, void *arg)
{
	struct line *l = arg;

	if (l->failed)
		return -1;
	if (l->len + len > l->cap) {
		size_t cap = 2 * (l->len + len) + 256;
		char *p = realloc(l->text, cap);

		if (!p) {
			l->failed = true;
			return -1;
		}
		l->text = p;
		l->cap = cap;
	}
	memcpy(l->text + l->len, text, len);
	l->len += len;
	return 0;
}

int wire_send(struct wire *w, json_t *obj)
{
	struct line l = { .failed = !obj };
	int err = -ENOMEM;

	if (obj && (json_dump_callback(obj, line_add, &l, JSON_COMPACT) || line_add("\n", 1, &l)))
		l.failed = true;
	json_decref(obj);
	if (!l.failed)
		err = wire_send_raw(w, l.text, l.len);
	free(l.text);
	return err;
}
