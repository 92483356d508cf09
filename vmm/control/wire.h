/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control protocol's framing, used at both ends: one JSON object per line, or raw bytes that
 * the line before has announced (docs/control.md). Only one thread at a time may use a struct wire.
 */
#ifndef RAMET_VMM_CONTROL_WIRE_H
#define RAMET_VMM_CONTROL_WIRE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#define WIRE_REQUEST_MAX (4u << 10)  /* bytes of a request's line */
#define WIRE_REPLY_MAX	 (16u << 20) /* bytes of a reply's line */
#define WIRE_CHUNK_MAX	 (1u << 20)  /* raw bytes after one reply */
#define WIRE_TICK_MS	 500	     /* how often idle() is called during a wait */

struct wire {
	int fd;
	char *buf;	  /* owned */
	size_t have, cap; /* bytes in buf, its size */
	bool ended;	  /* the peer will send no more; buf may have an unfinished line */
	const char *why;  /* after -EPROTO: the reason, for people */
	/*
	 * Called at the start of every wait for the peer to send bytes, or to take bytes
	 * (`sending`), and then every WIRE_TICK_MS, with the length of this wait so far. If the
	 * result is not 0, the wait ends and returns it. NULL: waits have no time limit.
	 */
	int (*idle)(void *arg, unsigned quiet_ms, bool sending);
	void *idle_arg;
};

void wire_init(struct wire *w, int fd);
void wire_free(struct wire *w); /* does not close the fd */

/* Receives one object of less than `max` bytes. The last one may lack its newline. The caller owns
 * *out. -ENODATA: the peer is gone; -EMSGSIZE: the line is too long; -EPROTO: the line is not an
 * object, see `why`. */
int wire_recv(struct wire *w, size_t max, json_t **out);
/* Receives exactly len raw bytes. */
int wire_recv_raw(struct wire *w, void *buf, size_t len);
/* Sends the object and drops the caller's reference. -ENOMEM: nothing has been sent. */
int wire_send(struct wire *w, json_t *obj);
int wire_send_raw(struct wire *w, const void *buf, size_t len);

#endif
