// SPDX-License-Identifier: Apache-2.0
/* The framing of the control protocol: lines that are cut, slow, too long or not JSON. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "vmm/control/wire.h"

struct pair {
	struct wire wire;
	int peer;
	unsigned asked, give_up_at; /* idle() */
};

static int setup(void **state)
{
	static struct pair p;
	int sv[2];

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, sv))
		return -1;
	p = (struct pair){ .peer = sv[1] };
	wire_init(&p.wire, sv[0]);
	*state = &p;
	return 0;
}

static int teardown(void **state)
{
	struct pair *p = *state;

	close(p->wire.fd);
	close(p->peer);
	wire_free(&p->wire);
	return 0;
}

static void say(struct pair *p, const char *text)
{
	assert_int_equal(write(p->peer, text, strlen(text)), strlen(text));
}

static void expect(struct pair *p, const char *key)
{
	json_t *obj = NULL;

	assert_int_equal(wire_recv(&p->wire, WIRE_REQUEST_MAX, &obj), 0);
	assert_non_null(json_object_get(obj, key));
	json_decref(obj);
}

static void test_lines(void **state)
{
	struct pair *p = *state;
	json_t *obj;

	say(p, "{\"a\":1}\n{\"b\":2}\n{\"c\"");
	expect(p, "a");
	expect(p, "b");
	say(p, ":3}\n");
	expect(p, "c");
	close(p->peer);
	p->peer = -1;
	assert_int_equal(wire_recv(&p->wire, WIRE_REQUEST_MAX, &obj), -ENODATA);
}

static void test_last_line_without_newline(void **state)
{
	struct pair *p = *state;
	json_t *obj;

	say(p, "{\"a\":1}\n{\"b\":2}");
	shutdown(p->peer, SHUT_WR);
	expect(p, "a");
	expect(p, "b");
	assert_int_equal(wire_recv(&p->wire, WIRE_REQUEST_MAX, &obj), -ENODATA);
	assert_int_equal(wire_recv(&p->wire, WIRE_REQUEST_MAX, &obj), -ENODATA);
}

static void test_cut_line(void **state)
{
	struct pair *p = *state;
	json_t *obj;

	say(p, "{\"a\":");
	shutdown(p->peer, SHUT_WR);
	assert_int_equal(wire_recv(&p->wire, WIRE_REQUEST_MAX, &obj), -EPROTO);
	assert_true(p->wire.ended);
}

static void test_why(void **state)
{
	static const struct {
		const char *line, *why;
	} bad[] = {
		{ "{\"a\":1,\"a\":2}\n", "the same key twice" },
		{ "{\"a\":99999999999999999999}\n", "too large" },
		{ "{\"a\":1e999}\n", "too large" },
		{ "[]\n", "not a JSON object" },
		{ "{}}\n", "not a JSON object" },
		{ "\n", "not a JSON object" },
	};
	struct pair *p = *state;
	json_t *obj;

	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		say(p, bad[i].line);
		assert_int_equal(wire_recv(&p->wire, WIRE_REQUEST_MAX, &obj), -EPROTO);
		assert_non_null(strstr(p->wire.why, bad[i].why));
	}
}

static void test_too_long(void **state)
{
	struct pair *p = *state;
	char line[WIRE_REQUEST_MAX + 1];
	json_t *obj;

	memset(line, ' ', sizeof(line));
	line[0] = '{';
	line[WIRE_REQUEST_MAX - 2] = '}';
	line[WIRE_REQUEST_MAX - 1] = '\n';
	assert_int_equal(write(p->peer, line, WIRE_REQUEST_MAX), WIRE_REQUEST_MAX);
	assert_int_equal(wire_recv(&p->wire, WIRE_REQUEST_MAX, &obj), 0);
	json_decref(obj);
	line[WIRE_REQUEST_MAX - 2] = ' ';
	line[WIRE_REQUEST_MAX - 1] = '}';
	line[WIRE_REQUEST_MAX] = '\n';
	assert_int_equal(write(p->peer, line, sizeof(line)), sizeof(line));
	assert_int_equal(wire_recv(&p->wire, WIRE_REQUEST_MAX, &obj), -EMSGSIZE);
}

static int idle(void *arg, unsigned quiet_ms, bool sending)
{
	struct pair *p = arg;

	return ++p->asked >= p->give_up_at ? -ETIMEDOUT : 0;
}

static void test_silent_peer(void **state)
{
	struct pair *p = *state;
	char raw[8];
	json_t *obj;

	p->wire.idle = idle;
	p->wire.idle_arg = p;
	p->give_up_at = 2;
	say(p, "{\"a\":");
	assert_int_equal(wire_recv(&p->wire, WIRE_REQUEST_MAX, &obj), -ETIMEDOUT);
	assert_int_equal(p->asked, 2);
	/* The bytes that had arrived before are still in the buffer. */
	say(p, "1}\nxy");
	expect(p, "a");
	p->asked = 0;
	assert_int_equal(wire_recv_raw(&p->wire, raw, sizeof(raw)), -ETIMEDOUT);
}

static void test_peer_that_does_not_read(void **state)
{
	static char much[4 << 20];
	struct pair *p = *state;

	p->wire.idle = idle;
	p->wire.idle_arg = p;
	p->give_up_at = 2;
	assert_int_equal(wire_send_raw(&p->wire, much, sizeof(much)), -ETIMEDOUT);
	close(p->peer);
	p->peer = -1;
	assert_int_equal(wire_send_raw(&p->wire, much, sizeof(much)), -ENODATA);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_lines, setup, teardown),
		cmocka_unit_test_setup_teardown(test_last_line_without_newline, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cut_line, setup, teardown),
		cmocka_unit_test_setup_teardown(test_why, setup, teardown),
		cmocka_unit_test_setup_teardown(test_too_long, setup, teardown),
		cmocka_unit_test_setup_teardown(test_silent_peer, setup, teardown),
		cmocka_unit_test_setup_teardown(test_peer_that_does_not_read, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
