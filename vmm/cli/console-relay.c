/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/cli/console-relay.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#include "vmm/cli/command.h"

#define ESCAPE	'\x1d'	    /* Ctrl-] */
#define HELD	(64u << 10) /* input that the guest has not taken */
#define LOOK_MS 300	    /* time between two checks whether this process is in the foreground */

struct relay {
	struct client *client;
	int wake;
	enum relay_keys keys;
	bool tty;	      /* stdin is a terminal */
	bool ours;	      /* this process is in the terminal's foreground */
	bool changed;	      /* the terminal's modes have been saved and changed */
	struct termios saved; /* the terminal's modes before the change */
	bool input_ended;
	char held[HELD]; /* input for the guest */
	size_t n_held;
};

/* ---- the terminal ---- */

/* Keys go to the guest as they are typed; the guest echoes. */
static struct termios raw_modes(const struct relay *r)
{
	struct termios raw = r->saved;
	tcflag_t signals = r->keys == RELAY_KEYS_SIGNAL ? 0 : ISIG;

	raw.c_iflag &= ~(tcflag_t)(ICRNL | INLCR | IXON | ISTRIP);
	raw.c_lflag &= ~(ICANON | ECHO | IEXTEN | signals);
	raw.c_cc[VMIN] = 1;
	raw.c_cc[VTIME] = 0;
	/* Ctrl-Z goes to the guest: if it stopped the process, all clones would stop. */
	raw.c_cc[VSUSP] = _POSIX_VDISABLE;
	return raw;
}

/*
 * Checks whether this process is in the terminal's foreground. If so, and the terminal is not raw,
 * makes it raw: a shell may have restored its modes while this process was stopped.
 */
static void look_at_terminal(struct relay *r)
{
	struct termios now, raw;

	r->ours = tcgetpgrp(STDIN_FILENO) == getpgrp();
	if (!r->ours || tcgetattr(STDIN_FILENO, &now))
		return;
	if (!r->changed)
		r->saved = now;
	r->changed = true;
	raw = raw_modes(r);
	if (now.c_lflag != raw.c_lflag || now.c_iflag != raw.c_iflag)
		tcsetattr(STDIN_FILENO, TCSANOW, &raw);
}

static void take_terminal(struct relay *r)
{
	r->tty = isatty(STDIN_FILENO);
	if (!r->tty)
		return;
	/* The kernel stops a background process that changes the terminal, unless the process
	 * ignores SIGTTOU. */
	signal(SIGTTOU, SIG_IGN);
	signal(SIGTTIN, SIG_IGN);
	signal(SIGTSTP, SIG_IGN);
	look_at_terminal(r);
}

static void give_terminal_back(struct relay *r)
{
	if (r->changed && tcgetpgrp(STDIN_FILENO) == getpgrp())
		tcsetattr(STDIN_FILENO, TCSADRAIN, &r->saved);
}

/* ---- from the user to the guest ---- */

/* Sends as much as the connection takes without waiting. */
static void send_held(struct relay *r)
{
	ssize_t n;

	while (r->n_held) {
		n = send(r->client->wire.fd, r->held, r->n_held, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return; /* if the other side is gone, the next receive fails */
		r->n_held -= (size_t)n;
		memmove(r->held, r->held + n, r->n_held);
	}
}

static void hold(struct relay *r, const char *buf, size_t len)
{
	size_t room = sizeof(r->held) - r->n_held;

	len = len < room ? len : room;
	memcpy(r->held + r->n_held, buf, len);
	r->n_held += len;
	send_held(r);
}

static bool may_read_input(const struct relay *r)
{
	if (r->input_ended)
		return false;
	/* A terminal is read even if there is no room, since a key may end the relay. */
	return r->tty ? r->ours : r->n_held < sizeof(r->held);
}

/* False: the user typed Ctrl-]. */
static bool read_input(struct relay *r)
{
	char buf[4096];
	size_t room = sizeof(r->held) - r->n_held, want = sizeof(buf);
	const char *escape = NULL;
	ssize_t n;

	if (!r->tty && room < want)
		want = room;
	n = read(STDIN_FILENO, buf, want);
	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return true;
	if (n < 0 && errno == EIO && r->tty) {
		r->ours = false; /* the process went to the background since the last check */
		return true;
	}
	if (n <= 0) {
		r->input_ended = true;
		return true;
	}
	if (r->tty && r->keys == RELAY_KEYS_ESCAPE)
		escape = memchr(buf, ESCAPE, (size_t)n);
	hold(r, buf, escape ? (size_t)(escape - buf) : (size_t)n);
	return !escape;
}

/* ---- from the guest to stdout ---- */

static bool gone(short revents)
{
	return revents & (POLLERR | POLLHUP | POLLNVAL);
}

/* Waits until stdout can be written to, and reads keys meanwhile. False: the relay must end, for
 * the reason *end, for example because `wake` is readable. */
static bool wait_for_stdout(struct relay *r, enum relay_end *end)
{
	for (;;) {
		struct pollfd fds[] = {
			{ .fd = STDOUT_FILENO, .events = POLLOUT },
			{ .fd = r->wake, .events = POLLIN },
			{ .fd = may_read_input(r) ? STDIN_FILENO : -1, .events = POLLIN },
		};

		if (poll(fds, 3, r->tty ? LOOK_MS : -1) < 0)
			continue;
		if (r->tty)
			look_at_terminal(r);
		*end = RELAY_WOKEN;
		if (fds[1].revents)
			return false;
		*end = RELAY_NO_OUTPUT;
		errno = EPIPE;
		if (gone(fds[0].revents))
			return false;
		*end = RELAY_ESCAPED;
		if (fds[2].revents && !read_input(r))
			return false;
		if (fds[0].revents)
			return true;
	}
}

static bool to_stdout(struct relay *r, const char *buf, size_t len, enum relay_end *end)
{
	while (len) {
		ssize_t n;

		if (!wait_for_stdout(r, end))
			return false;
		/* At most PIPE_BUF: a pipe that has room takes this much without waiting. */
		n = write(STDOUT_FILENO, buf, len < PIPE_BUF ? len : PIPE_BUF);
		if (n < 0 && errno != EINTR && errno != EAGAIN) {
			*end = RELAY_NO_OUTPUT;
			return false;
		}
		if (n > 0) {
			buf += n;
			len -= (size_t)n;
		}
	}
	return true;
}

static bool from_guest(struct relay *r, enum relay_end *end)
{
	char buf[4096];
	ssize_t n = recv(r->client->wire.fd, buf, sizeof(buf), 0);

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return true;
	if (n <= 0) {
		*end = RELAY_STOPPED;
		return false;
	}
	return to_stdout(r, buf, (size_t)n, end);
}

/* ---- both ---- */

/* Waits once and handles the events. False: the relay ends. */
static bool step(struct relay *r, enum relay_end *end)
{
	short room = r->n_held ? POLLOUT : 0;
	struct pollfd fds[] = {
		{ .fd = r->wake, .events = POLLIN },
		{ .fd = r->client->wire.fd, .events = (short)(POLLIN | room) },
		{ .fd = may_read_input(r) ? STDIN_FILENO : -1, .events = POLLIN },
		{ .fd = STDOUT_FILENO,
			.events = 0 }, /* notices that the reader has gone while no output comes */
	};

	if (poll(fds, 4, r->tty ? LOOK_MS : -1) < 0)
		return true;
	if (r->tty)
		look_at_terminal(r);
	*end = RELAY_WOKEN;
	if (fds[0].revents)
		return false;
	if (fds[1].revents & POLLOUT)
		send_held(r);
	if (fds[1].revents & ~POLLOUT && !from_guest(r, end))
		return false;
	*end = RELAY_ESCAPED;
	if (fds[2].revents && !read_input(r))
		return false;
	*end = RELAY_NO_OUTPUT;
	errno = EPIPE;
	return !gone(fds[3].revents);
}

enum relay_end console_relay(struct client *c, int wake, enum relay_keys keys)
{
	static struct relay r; /* static: it is large, and there is only one terminal */
	enum relay_end end = RELAY_STOPPED;
	int err;

	r = (struct relay){ .client = c, .wake = wake, .keys = keys };
	take_terminal(&r);
	/* Output that came together with the reply to the request. */
	if (to_stdout(&r, c->wire.buf, c->wire.have, &end)) {
		c->wire.have = 0;
		while (step(&r, &end))
			;
	}
	err = errno;
	give_terminal_back(&r);
	errno = err;
	return end;
}

int relay_no_output(int err)
{
	return err == EPIPE ? 128 + SIGPIPE : complain("writing to stdout: %s", strerror(err));
}
