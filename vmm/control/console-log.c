/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/control/console-log.h"
#include "vmm/base/lock.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct console_log {
	atomic_uint refs;
	struct lock lock; /* guards all below */
	uint64_t written; /* bytes since the log was made; the ring holds the last ones */
	size_t size;	  /* of ring: a power of two, grown on demand */
	char *ring;
	bool closed, kept;
	struct console_reader *readers;
};

struct console_reader {
	struct console_log *log;
	struct console_reader *next;
	uint64_t pos; /* the next byte to read, counted like `written` */
	int event;
};

struct console_log *console_log_new(void)
{
	struct console_log *log = calloc(1, sizeof(*log));

	if (!log)
		return NULL;
	atomic_init(&log->refs, 1);
	lock_init(&log->lock, LOCK_CONSOLE_LOG);
	return log;
}

struct console_log *console_log_get(struct console_log *log)
{
	atomic_fetch_add(&log->refs, 1);
	return log;
}

void console_log_put(struct console_log *log)
{
	if (!log || atomic_fetch_sub(&log->refs, 1) != 1)
		return;
	lock_destroy(&log->lock);
	free(log->ring);
	free(log);
}

/* Makes room for `len` more bytes, so that none is lost, as far as the limit and memory allow. */
static void ring_grow(struct console_log *log, size_t len)
{
	uint64_t need = log->written + len;
	size_t size = log->size ? log->size : 256;
	char *ring;

	while (size < need && size < CONSOLE_BACKLOG)
		size *= 2;
	if (size == log->size)
		return;
	/* Nothing has been overwritten while the ring grows, so it starts at 0. */
	ring = realloc(log->ring, size);
	if (!ring)
		return;
	log->ring = ring;
	log->size = size;
}

static void wake_readers(struct console_log *log)
{
	for (struct console_reader *r = log->readers; r; r = r->next)
		eventfd_write(r->event, 1);
}

void console_log_write(struct console_log *log, const char *buf, size_t len)
{
	lock_take(&log->lock);
	if (log->written <= log->size)
		ring_grow(log, len);
	for (size_t i = 0; i < len && log->size; i++)
		log->ring[log->written++ & (log->size - 1)] = buf[i];
	wake_readers(log);
	lock_release(&log->lock);
}

/* Frees the ring if no reader, present or future, needs it. The caller holds the lock. */
static void empty_if_done(struct console_log *log)
{
	if (!log->closed || log->kept || log->readers)
		return;
	free(log->ring);
	log->ring = NULL;
	log->size = 0;
	log->written = 0;
}

void console_log_close(struct console_log *log, bool keep)
{
	lock_take(&log->lock);
	log->closed = true;
	log->kept |= keep;
	wake_readers(log);
	empty_if_done(log);
	lock_release(&log->lock);
}

void console_log_forget(struct console_log *log)
{
	lock_take(&log->lock);
	log->kept = false;
	empty_if_done(log);
	lock_release(&log->lock);
}

struct console_reader *console_reader_open(struct console_log *log)
{
	struct console_reader *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	r->event = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
	if (r->event < 0) {
		free(r);
		return NULL;
	}
	r->log = console_log_get(log);
	lock_take(&log->lock);
	r->pos = log->written > log->size ? log->written - log->size : 0;
	r->next = log->readers;
	log->readers = r;
	lock_release(&log->lock);
	return r;
}

void console_reader_close(struct console_reader *r)
{
	struct console_reader **p;

	if (!r)
		return;
	lock_take(&r->log->lock);
	for (p = &r->log->readers; *p != r; p = &(*p)->next)
		;
	*p = r->next;
	empty_if_done(r->log);
	lock_release(&r->log->lock);
	console_log_put(r->log);
	close(r->event);
	free(r);
}

int console_reader_fd(const struct console_reader *r)
{
	return r->event;
}

size_t console_read(struct console_reader *r, char *buf, size_t len, uint64_t *lost, bool *end)
{
	struct console_log *log = r->log;
	eventfd_t ignored;
	uint64_t oldest;
	size_t n = 0;

	lock_take(&log->lock);
	oldest = log->written > log->size ? log->written - log->size : 0;
	*lost = r->pos < oldest ? oldest - r->pos : 0;
	r->pos += *lost;
	while (n < len && r->pos < log->written)
		buf[n++] = log->ring[r->pos++ & (log->size - 1)];
	*end = log->closed && r->pos == log->written;
	if (r->pos == log->written && !*end)
		eventfd_read(r->event, &ignored);
	lock_release(&log->lock);
	return n;
}
