/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/control/session-console.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define UNREAD_CROWDED_MS 10000 /* how long a client may take no output, if crowded */
/* How long input waits for room if there is no eventfd that tells of room. */
#define RETRY_MS 100

struct pump {
	struct host *host;
	struct wire out; /* used to send only */
	struct ramet_vm *vm;
	struct console_reader *reader;
	struct ramet_watch room; /* signalled when the guest can take more input */
	char in[256];		 /* input that the guest has not taken yet */
	size_t in_len;
	bool in_closed;
};

/* A client may take output as slowly as it likes (a pager does), unless other clients need its
 * place. */
static int pump_idle(void *arg, unsigned quiet_ms, bool sending)
{
	struct pump *p = arg;

	return quiet_ms >= UNREAD_CROWDED_MS && host_crowded(p->host) ? -ETIMEDOUT : 0;
}

/* Sends new output. `last`: all that there is. False: the log has ended, or the client has left. */
static bool pump_output(struct pump *p, bool last)
{
	char buf[4096], note[64];
	uint64_t lost;
	bool end;
	size_t n;

	do {
		n = console_read(p->reader, buf, sizeof(buf), &lost, &end);
		if (lost) {
			int len = snprintf(note, sizeof(note),
				"\r\n[ramet: %" PRIu64 " bytes of output lost]\r\n", lost);

			if (wire_send_raw(&p->out, note, (size_t)len))
				return false;
		}
		if (n && wire_send_raw(&p->out, buf, n))
			return false;
	} while (last && n);
	return !end;
}

static void pump_input(struct pump *p, bool readable)
{
	ssize_t n;

	if (readable) {
		n = recv(p->out.fd, p->in + p->in_len, sizeof(p->in) - p->in_len, MSG_DONTWAIT);
		if (n > 0)
			p->in_len += (size_t)n;
		else if (n == 0 || (errno != EAGAIN && errno != EINTR))
			p->in_closed = true;
	}
	if (p->in_len) {
		size_t taken = ramet_console_input(p->vm, p->in, p->in_len);

		p->in_len -= taken;
		memmove(p->in, p->in + taken, p->in_len);
	}
}

static bool stopped(const struct ramet_stat *st)
{
	return st->state != RAMET_RUNNING && st->state != RAMET_PAUSED;
}

static void pump_run(struct pump *p)
{
	bool going = true;

	while (going) {
		struct pollfd fds[] = {
			{ .fd = console_reader_fd(p->reader), .events = POLLIN },
			{ .fd = p->out.fd, .events = 0 },
			{ .fd = p->room.event, .events = POLLIN },
		};
		eventfd_t ignored;

		if (!p->in_closed && p->in_len < sizeof(p->in))
			fds[1].events = POLLIN;
		if (poll(fds, 3, p->in_len && p->room.event < 0 ? RETRY_MS : -1) < 0 &&
			errno != EINTR)
			return;
		if (fds[1].revents & (POLLHUP | POLLERR))
			return;
		if (fds[0].revents)
			going = pump_output(p, false);
		if (fds[2].revents)
			eventfd_read(p->room.event, &ignored);
		pump_input(p, fds[1].revents & POLLIN);
	}
}

/* Moves input and output until the VM stops or the client leaves. */
static void pump_both(struct pump *p)
{
	p->room.what = RAMET_WATCH_INPUT;
	p->room.event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (p->room.event >= 0)
		ramet_watch(p->vm, &p->room);
	pump_run(p);
	if (p->room.event >= 0) {
		ramet_unwatch(p->vm, &p->room);
		close(p->room.event);
	}
}

static bool pump_open(struct pump *p, struct host *host, int fd, struct console_log *log)
{
	*p = (struct pump){ .host = host, .out = { .fd = fd, .idle = pump_idle } };
	p->out.idle_arg = p;
	p->reader = log ? console_reader_open(log) : NULL;
	return p->reader;
}

/* Sends the output of a VM that has ended. Its log may have been made after that, or the host has
 * not been told of the end yet: then no thread has closed the log yet. */
static void pump_rest(struct pump *p, struct console_log *log, bool keep)
{
	console_log_close(log, keep);
	pump_output(p, true);
}

void control_console(struct host *host, int fd, struct ramet_vm *vm)
{
	struct console_log *log = host_console_log(vm);
	struct ramet_stat st;
	struct pump p;

	if (!pump_open(&p, host, fd, log))
		return;
	p.vm = vm;
	ramet_vm_stat_quick(vm, &st);
	if (stopped(&st))
		pump_rest(&p, log, ended_wrong(&st));
	else
		pump_both(&p);
	console_reader_close(p.reader);
}

void control_console_ended(struct host *host, int fd, struct console_log *log)
{
	struct pump p;

	if (!pump_open(&p, host, fd, log))
		return;
	pump_rest(&p, log, false); /* what has been kept stays kept */
	console_reader_close(p.reader);
}
