/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/wire.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

void wire_init(struct wire *w, int fd)
{
	*w = (struct wire){ .fd = fd };
}

void wire_free(struct wire *w)
{
	free(w->buf);
	*w = (struct wire){ .fd = -1 };
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
	do
		n = recv(w->fd, w->buf + w->have, w->cap - w->have, 0);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == ECONNRESET ? -ENODATA : -errno;
	if (n == 0)
		return -ENODATA;
	w->have += (size_t)n;
	return 0;
}

static void consume(struct wire *w, size_t len)
{
	w->have -= len;
	memmove(w->buf, w->buf + len, w->have);
}

int wire_recv(struct wire *w, size_t max, json_t **out)
{
	size_t seen = 0;
	char *nl;
	json_t *obj;

	while (!(nl = w->have ? memchr(w->buf + seen, '\n', w->have - seen) : NULL)) {
		int err;

		seen = w->have;
		err = fill(w, max);
		if (err)
			return err;
	}
	if ((size_t)(nl - w->buf) >= max)
		return -EMSGSIZE;
	obj = json_loadb(w->buf, (size_t)(nl - w->buf), JSON_REJECT_DUPLICATES, NULL);
	consume(w, (size_t)(nl - w->buf) + 1);
	if (!json_is_object(obj)) {
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
		ssize_t got = recv(w->fd, p + n, len - n, MSG_WAITALL);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return got < 0 ? -errno : -ENODATA;
		n += (size_t)got;
	}
	return 0;
}

int wire_send_raw(struct wire *w, const void *buf, size_t len)
{
	const char *p = buf;

	while (len) {
		ssize_t n = send(w->fd, p, len, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EPIPE || errno == ECONNRESET ? -ENODATA : -errno;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

int wire_send(struct wire *w, json_t *obj)
{
	char *line = obj ? json_dumps(obj, JSON_COMPACT) : NULL;
	size_t len;
	int err;

	json_decref(obj);
	if (!line)
		return -ENOMEM;
	len = strlen(line);
	line[len] = '\n'; /* in place of the terminator: one send */
	err = wire_send_raw(w, line, len + 1);
	free(line);
	return err;
}
