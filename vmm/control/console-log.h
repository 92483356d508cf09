/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The last 64 KiB that a VM wrote to its console, kept for clients that attach later.
 *
 * Writers are vCPU threads and never wait for a reader: one that is more than 64 KiB behind loses
 * the oldest bytes and is told how many. Each log has its own lock, under which no other is taken.
 */
#ifndef RAMET_VMM_CONTROL_CONSOLE_LOG_H
#define RAMET_VMM_CONTROL_CONSOLE_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONSOLE_BACKLOG (64u << 10)

/* A log lives as long as there is a reference to it; each reader has one. NULL: out of memory. */
struct console_log;
struct console_log *console_log_new(void);
struct console_log *console_log_get(struct console_log *log);
void console_log_put(struct console_log *log); /* does not wait; log may be NULL */

void console_log_write(struct console_log *log, const char *buf, size_t len);
/* The VM will write no more, and readers see the end. With `keep` the bytes stay for later readers,
 * until console_log_forget(); otherwise they are freed when the last present reader has left. */
void console_log_close(struct console_log *log, bool keep);
void console_log_forget(struct console_log *log);

/* A new reader starts at the oldest byte that is kept. NULL: out of memory or descriptors. */
struct console_reader;
struct console_reader *console_reader_open(struct console_log *log);
void console_reader_close(struct console_reader *r);
/* A descriptor that poll(2) finds readable when there may be new bytes, or the end. */
int console_reader_fd(const struct console_reader *r);
/* Reads up to len bytes and returns their number. *lost receives the number of bytes that were
 * dropped before them. *end: the log is closed, and its last byte has been read. Does not wait. */
size_t console_read(struct console_reader *r, char *buf, size_t len, uint64_t *lost, bool *end);

#endif
