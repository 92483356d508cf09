/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What VMs wrote to their consoles: the last 64 KiB of each, kept for whoever attaches.
 *
 * Writers are vCPU threads and never wait: a reader that is more than 64 KiB behind loses the
 * oldest bytes and is told how many. A log is found by its VM's id, made at first use, and lives
 * until it has been closed, is not kept, and its last reader has put it.
 */
#ifndef RAMET_VMM_CONTROL_CONSOLE_LOG_H
#define RAMET_VMM_CONTROL_CONSOLE_LOG_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONSOLE_BACKLOG (64u << 10)

struct console_log;

#define CONSOLE_BUCKETS 256
struct console_logs {
	pthread_mutex_t lock;
	struct console_log *bucket[CONSOLE_BUCKETS];
};

void console_logs_init(struct console_logs *logs);
void console_logs_free(struct console_logs *logs); /* no readers may be left */

void console_log_write(struct console_logs *logs, uint64_t id, const char *buf, size_t len);
/* The VM will write no more; its readers see the end. `keep`: for later readers, until it is
 * forgotten; otherwise until the last present one has put it. A log that was never used is not made
 * by either. */
void console_log_close(struct console_logs *logs, uint64_t id, bool keep);
void console_log_forget(struct console_logs *logs, uint64_t id);

/* A reader starts at the oldest byte kept. NULL: out of memory or descriptors. */
struct console_reader;
struct console_reader *console_reader_open(struct console_logs *logs, uint64_t id);
void console_reader_close(struct console_reader *r);
/* Readable (for poll) when there may be something new. */
int console_reader_fd(const struct console_reader *r);
/* Up to len bytes. *lost is how many were dropped before them, *end is set past the last one of a
 * closed log. Does not wait. */
size_t console_read(struct console_reader *r, char *buf, size_t len, uint64_t *lost, bool *end);

#endif
