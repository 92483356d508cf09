/* SPDX-License-Identifier: Apache-2.0 */
#include "host-common.h"

#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "vmm/base/clock.h"
#include "vmm/control/serve.h"

struct host host;
struct ramet_family family;
struct ramet_vm *booted;

int setup(void **state)
{
	struct ramet_config cfg = { 0 };
	struct ramet_err err;

	if (host_init(&host, "web", control_session, &err)) {
		fprintf(stderr, "%s\n", err.msg);
		return -1;
	}
	host_hooks(&host, &cfg);
	booted = fake_boot(&family, "web", &cfg);
	return host_start(&host, &family, booted, &err);
}

int teardown(void **state)
{
	host_close(&host);
	return family.leaked ? -1 : 0;
}

/* ---- a client ---- */

int join(void)
{
	int sv[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
	assert_int_equal(host_serve(&host, sv[1]), 0);
	return sv[0];
}

int join_any(int *fd)
{
	int sv[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
	*fd = sv[0];
	return host_serve(&host, sv[1]);
}

void say(int fd, const char *line)
{
	assert_int_equal(send(fd, line, strlen(line), MSG_NOSIGNAL), strlen(line));
}

bool readable(int fd, int ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, ms) > 0;
}

/* A line without its end into a buffer of its own; "" at the end of the connection. */
const char *hear(int fd)
{
	static char line[1 << 20];
	size_t n = 0;

	do {
		assert_true(readable(fd, SOON_MS));
		if (read(fd, line + n, 1) != 1)
			break;
	} while (line[n++] != '\n' && n < sizeof(line));
	line[n ? n - 1 : 0] = '\0';
	return line;
}

json_t *parse(const char *line)
{
	json_t *obj = json_loads(line, JSON_REJECT_DUPLICATES, NULL);

	if (!obj)
		fail_msg("not JSON: '%s'", line);
	return obj;
}

json_t *ask(int fd, const char *line)
{
	say(fd, line);
	say(fd, "\n");
	return parse(hear(fd));
}

json_t *ask_alone(const char *line)
{
	int fd = join();
	json_t *reply = ask(fd, line);

	close(fd);
	return reply;
}

const json_t *get(const json_t *obj, const char *key)
{
	const json_t *value = json_object_get(obj, key);

	if (!value)
		fail_msg("no '%s'", key);
	return value;
}

void assert_ok(json_t *reply)
{
	if (!json_is_true(get(reply, "ok")))
		fail_msg("refused: %s", json_string_value(get(reply, "error")));
	json_decref(reply);
}

bool is_over(int ms)
{
	return readable(host.done, ms);
}

void sleep_ms(int ms)
{
	poll(NULL, 0, ms);
}

void await_clients(unsigned n)
{
	uint64_t until = now_ns() + SOON_MS * 1000000ull;

	for (;;) {
		unsigned now;

		lock_take(&host.lock);
		now = host.n_clients;
		lock_release(&host.lock);
		if (now == n)
			return;
		assert_true(now_ns() < until);
		sleep_ms(5);
	}
}

void await_room(void)
{
	uint64_t until = now_ns() + SOON_MS * 1000000ull;

	for (; host_crowded(&host); sleep_ms(5))
		assert_true(now_ns() < until);
}

int run_with_runtime_dir(int (*run)(void))
{
	char dir[] = "/tmp/ramet-host.XXXXXX";
	int failed;

	if (!mkdtemp(dir))
		return 1;
	setenv("RAMET_RUNTIME_DIR", dir, 1);
	failed = run();
	rmdir(dir);
	return failed;
}
