/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a VM wrote to its console: the last 64 KiB of it, kept for whoever attaches.
 *
 * Writers are vCPU threads and never wait: a reader that is more than 64 KiB behind loses the
 * oldest bytes and is told how many. A log has a lock of its own, under which nothing is taken.
 */
#ifndef RAMET_VMM_CONTROL_CONSOLE_LOG_H
#define RAMET_VMM_CONTROL_CONSOLE_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONSOLE_BACKLOG (64u << 10)

/* A log lives while somebody has a reference to it; a reader has one. NULL: out of memory. */
struct console_log;
struct console_log *console_log_new(void);
struct console_log *console_log_get(struct console_log *log);
void console_log_put(struct console_log *log); /* waits for nobody; NULL is fine */

void console_log_write(struct console_log *log, const char *buf, size_t len);
/* The VM will write no more; its readers see the end. `keep`: what was written stays for later
 * readers, until it is forgotten; otherwise until the last present one has left. */
void console_log_close(struct console_log *log, bool keep);
void console_log_forget(struct console_log *log);

/* A reader starts at the oldest byte kept. NULL: out of memory or descriptors. */
struct console_reader;
struct console_reader *console_reader_open(struct console_log *log);
void console_reader_close(struct console_reader *r);
/* Readable (for poll) when there may be something new. */
int console_reader_fd(const struct console_reader *r);
/* Up to len bytes. *lost is how many were dropped before them, *end is set past the last one of a
 * closed log. Does not wait. */
size_t console_read(struct console_reader *r, char *buf, size_t len, uint64_t *lost, bool *end);

#endif
