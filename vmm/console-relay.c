/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/console-relay.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#define ESCAPE '\x1d' /* Ctrl-] */

/* Keys go to the guest as they are typed; the guest echoes. */
static bool tty_raw(struct termios *saved, bool keep_signals)
{
	struct termios raw;

	if (!isatty(STDIN_FILENO) || tcgetattr(STDIN_FILENO, saved))
		return false;
	raw = *saved;
	raw.c_iflag &= ~(tcflag_t)(ICRNL | INLCR | IXON | ISTRIP);
	raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO | IEXTEN | (keep_signals ? 0 : ISIG));
	raw.c_cc[VMIN] = 1;
	raw.c_cc[VTIME] = 0;
	return !tcsetattr(STDIN_FILENO, TCSANOW, &raw);
}

/* Waits for room in small steps, so that a full pipe does not keep us from seeing `wake`. */
static bool to_stdout(const char *buf, size_t len, int wake)
{
	struct pollfd fds[] = {
		{ .fd = STDOUT_FILENO, .events = POLLOUT },
		{ .fd = wake, .events = POLLIN },
	};

	while (len) {
		ssize_t n;

		if (poll(fds, 2, -1) < 0)
			continue;
		if (fds[1].revents || (fds[0].revents & POLLERR))
			return false;
		n = write(STDOUT_FILENO, buf, len < PIPE_BUF ? len : PIPE_BUF);
		if (n < 0 && errno != EINTR && errno != EAGAIN)
			return false;
		if (n > 0) {
			buf += n;
			len -= (size_t)n;
		}
	}
	return true;
}

/* Input from the user. False: escaped. */
static bool to_guest(struct client *c, const char *buf, size_t len, bool tty)
{
	const char *esc = tty ? memchr(buf, ESCAPE, len) : NULL;

	wire_send_raw(&c->wire, buf, esc ? (size_t)(esc - buf) : len);
	return !esc;
}

/* Why to_stdout() could not. */
static enum relay_end output_end(int wake)
{
	struct pollfd p = { .fd = wake, .events = POLLIN };

	return poll(&p, 1, 0) > 0 ? RELAY_SIGNAL : RELAY_NO_OUTPUT;
}

static enum relay_end relay(struct client *c, int wake, bool tty)
{
	/* stdin drops out of the set at its end. */
	struct pollfd fds[] = {
		{ .fd = STDIN_FILENO, .events = POLLIN },
		{ .fd = c->wire.fd, .events = POLLIN },
		{ .fd = wake, .events = POLLIN },
	};
	char buf[4096];
	ssize_t n;

	/* What came along with the reply to the request. */
	if (!to_stdout(c->wire.buf, c->wire.have, wake))
		return output_end(wake);
	c->wire.have = 0;
	for (;;) {
		if (poll(fds, 3, -1) < 0)
			continue;
		if (fds[2].revents)
			return RELAY_SIGNAL;
		if (fds[1].revents) {
			n = recv(c->wire.fd, buf, sizeof(buf), 0);
			if (n <= 0)
				return RELAY_STOPPED;
			if (!to_stdout(buf, (size_t)n, wake))
				return output_end(wake);
		}
		if (fds[0].revents) {
			n = read(STDIN_FILENO, buf, sizeof(buf));
			if (n <= 0)
				fds[0].fd = -1;
			else if (!to_guest(c, buf, (size_t)n, tty))
				return RELAY_ESCAPED;
		}
	}
}

enum relay_end console_relay(struct client *c, int wake, bool keep_signals)
{
	struct termios saved;
	bool tty = tty_raw(&saved, keep_signals);
	enum relay_end end = relay(c, wake, tty);

	if (tty)
		tcsetattr(STDIN_FILENO, TCSADRAIN, &saved);
	return end;
}
