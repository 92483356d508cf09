/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/control/console-log.h"

#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct console_log {
	struct console_log *next; /* in its bucket */
	uint64_t id;
	uint64_t written; /* bytes ever; the ring holds the last of them */
	size_t size;	  /* of ring: a power of two, grown on demand */
	char *ring;
	bool closed, kept;
	struct console_reader *readers;
};

struct console_reader {
	struct console_logs *logs;
	struct console_log *log;
	struct console_reader *next;
	uint64_t pos; /* next byte to read, counted like `written` */
	int event;
};

void console_logs_init(struct console_logs *logs)
{
	memset(logs, 0, sizeof(*logs));
	pthread_mutex_init(&logs->lock, NULL);
}

static void log_free(struct console_logs *logs, struct console_log *log)
{
	struct console_log **p = &logs->bucket[log->id % CONSOLE_BUCKETS];

	while (*p != log)
		p = &(*p)->next;
	*p = log->next;
	free(log->ring);
	free(log);
}

void console_logs_free(struct console_logs *logs)
{
	for (unsigned i = 0; i < CONSOLE_BUCKETS; i++)
		while (logs->bucket[i])
			log_free(logs, logs->bucket[i]);
	pthread_mutex_destroy(&logs->lock);
}

static struct console_log *log_find(struct console_logs *logs, uint64_t id)
{
	struct console_log *log = logs->bucket[id % CONSOLE_BUCKETS];

	while (log && log->id != id)
		log = log->next;
	return log;
}

/* Found or made; NULL: out of memory. */
static struct console_log *log_get(struct console_logs *logs, uint64_t id)
{
	struct console_log **head = &logs->bucket[id % CONSOLE_BUCKETS];
	struct console_log *log = log_find(logs, id);

	if (log)
		return log;
	log = calloc(1, sizeof(*log));
	if (log) {
		log->id = id;
		log->next = *head;
		*head = log;
	}
	return log;
}

/* Room for `len` more bytes without losing any, as far as the limit and memory allow. */
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

void console_log_write(struct console_logs *logs, uint64_t id, const char *buf, size_t len)
{
	struct console_log *log;

	pthread_mutex_lock(&logs->lock);
	log = log_get(logs, id);
	if (log) {
		if (log->written <= log->size)
			ring_grow(log, len);
		for (size_t i = 0; i < len && log->size; i++)
			log->ring[log->written++ & (log->size - 1)] = buf[i];
		wake_readers(log);
	}
	pthread_mutex_unlock(&logs->lock);
}

static void free_if_done(struct console_logs *logs, struct console_log *log)
{
	if (log->closed && !log->kept && !log->readers)
		log_free(logs, log);
}

void console_log_close(struct console_logs *logs, uint64_t id, bool keep)
{
	struct console_log *log;

	pthread_mutex_lock(&logs->lock);
	log = log_find(logs, id);
	if (log) {
		log->closed = true;
		log->kept |= keep;
		wake_readers(log);
		free_if_done(logs, log);
	}
	pthread_mutex_unlock(&logs->lock);
}

void console_log_forget(struct console_logs *logs, uint64_t id)
{
	struct console_log *log;

	pthread_mutex_lock(&logs->lock);
	log = log_find(logs, id);
	if (log) {
		log->kept = false;
		free_if_done(logs, log);
	}
	pthread_mutex_unlock(&logs->lock);
}

struct console_reader *console_reader_open(struct console_logs *logs, uint64_t id)
{
	struct console_reader *r = calloc(1, sizeof(*r));
	struct console_log *log = NULL;

	if (!r)
		return NULL;
	r->logs = logs;
	r->event = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
	pthread_mutex_lock(&logs->lock);
	if (r->event >= 0)
		log = log_get(logs, id);
	if (log) {
		r->log = log;
		r->pos = log->written > log->size ? log->written - log->size : 0;
		r->next = log->readers;
		log->readers = r;
	}
	pthread_mutex_unlock(&logs->lock);
	if (!log) {
		if (r->event >= 0)
			close(r->event);
		free(r);
		return NULL;
	}
	return r;
}

void console_reader_close(struct console_reader *r)
{
	struct console_reader **p;

	if (!r)
		return;
	pthread_mutex_lock(&r->logs->lock);
	for (p = &r->log->readers; *p != r; p = &(*p)->next)
		;
	*p = r->next;
	free_if_done(r->logs, r->log);
	pthread_mutex_unlock(&r->logs->lock);
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

	pthread_mutex_lock(&r->logs->lock);
	oldest = log->written > log->size ? log->written - log->size : 0;
	*lost = r->pos < oldest ? oldest - r->pos : 0;
	r->pos += *lost;
	while (n < len && r->pos < log->written)
		buf[n++] = log->ring[r->pos++ & (log->size - 1)];
	*end = log->closed && r->pos == log->written;
	if (r->pos == log->written && !*end)
		eventfd_read(r->event, &ignored);
	pthread_mutex_unlock(&r->logs->lock);
	return n;
}
