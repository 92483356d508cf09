/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control protocol's framing, used on both ends: one JSON object a line, or raw bytes where
 * the line before announced them (docs/control.md). One thread at a time per struct wire.
 */
#ifndef RAMET_VMM_CONTROL_WIRE_H
#define RAMET_VMM_CONTROL_WIRE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#define WIRE_REQUEST_MAX (4u << 10)  /* bytes of a request's line */
#define WIRE_REPLY_MAX	 (16u << 20) /* bytes of a reply's line */
#define WIRE_CHUNK_MAX	 (1u << 20)  /* raw bytes after one reply */
#define WIRE_TICK_MS	 500	     /* how often idle() is asked */

struct wire {
	int fd;
	char *buf;	  /* owned */
	size_t have, cap; /* bytes in buf, its size */
	bool ended;	  /* the peer will send no more; buf may have an unfinished line */
	const char *why;  /* of -EPROTO, for people */
	/*
	 * Asked before every wait for the peer to send something, or to take something (`sending`),
	 * and every WIRE_TICK_MS of it, with the length of this wait so far. Anything but 0 ends
	 * the wait, which returns that. NULL: the wait has no end.
	 */
	int (*idle)(void *arg, unsigned quiet_ms, bool sending);
	void *idle_arg;
};

void wire_init(struct wire *w, int fd);
void wire_free(struct wire *w); /* not the fd */

/* One object of less than `max` bytes; the last one may lack its newline. The caller owns *out.
 * -ENODATA: the peer is gone; -EMSGSIZE: too long; -EPROTO: not an object, see `why`. */
int wire_recv(struct wire *w, size_t max, json_t **out);
/* Exactly len raw bytes. */
int wire_recv_raw(struct wire *w, void *buf, size_t len);
/* Sends the object and drops the reference. -ENOMEM: nothing has been sent. */
int wire_send(struct wire *w, json_t *obj);
int wire_send_raw(struct wire *w, const void *buf, size_t len);

#endif
