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
#define LOOK_MS 300 /* how late it may be noticed that the terminal is ours, or ours again */

struct relay {
	struct client *client;
	int wake;
	enum relay_keys keys;
	bool tty;	      /* stdin is a terminal */
	bool ours;	      /* and this process is in its foreground */
	bool changed;	      /* its modes have been saved and changed */
	struct termios saved; /* as it was */
	bool input_ended;
	char held[HELD]; /* for the guest */
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
	/* Ctrl-Z would stop the process, and with it all clones: it is the guest's. */
	raw.c_cc[VSUSP] = _POSIX_VDISABLE;
	return raw;
}

/*
 * Looks whether the terminal is ours, and makes it raw if it is and somebody else, such as a shell
 * while this process was stopped, has put back what was saved.
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
	/* A terminal stops its background processes that touch it, unless they ignore that. */
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

/* Sends what the connection takes at once. */
static void send_held(struct relay *r)
{
	ssize_t n;

	while (r->n_held) {
		n = send(r->client->wire.fd, r->held, r->n_held, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return; /* if the other side is gone, receiving tells */
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
	/* A terminal is read even if there is no room: its keys may be the way out. */
	return r->tty ? r->ours : r->n_held < sizeof(r->held);
}

/* False: escaped. */
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
		r->ours = false; /* in the background since the last look */
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

/* Waits until `wake` is readable (returns false) or stdout can be written to. Keys are read
 * meanwhile. *end is why it is false. */
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
		/* No more than a pipe takes without waiting, once it has room. */
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

/* One wait and what came of it. False: the end. */
static bool step(struct relay *r, enum relay_end *end)
{
	short room = r->n_held ? POLLOUT : 0;
	struct pollfd fds[] = {
		{ .fd = r->wake, .events = POLLIN },
		{ .fd = r->client->wire.fd, .events = (short)(POLLIN | room) },
		{ .fd = may_read_input(r) ? STDIN_FILENO : -1, .events = POLLIN },
		{ .fd = STDOUT_FILENO,
			.events = 0 }, /* a reader that goes while the guest is quiet */
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
	static struct relay r; /* large, and there is one terminal */
	enum relay_end end = RELAY_STOPPED;
	int err;

	r = (struct relay){ .client = c, .wake = wake, .keys = keys };
	take_terminal(&r);
	/* What came along with the reply to the request. */
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
