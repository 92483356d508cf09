// SPDX-License-Identifier: Apache-2.0
/* A family's process without VMs: its clients, their requests, when it ends
 * (tests/unit/fake-ramet). */
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

#include "fake-ramet.h"
#include "vmm/clock.h"
#include "vmm/host.h"

#define SOON_MS 20000 /* for what must happen, however loaded the machine is */

static struct host host;
static struct ramet_family family;
static struct ramet_vm *booted;

static int setup(void **state)
{
	struct ramet_err err;

	if (host_init(&host, "web", &err)) {
		fprintf(stderr, "%s\n", err.msg);
		return -1;
	}
	booted = fake_boot(&family, "web");
	return host_start(&host, &family, booted, &err);
}

static int teardown(void **state)
{
	host_close(&host);
	return family.leaked ? -1 : 0;
}

/* ---- a client ---- */

static int join(void)
{
	int sv[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
	assert_int_equal(host_serve(&host, sv[1]), 0);
	return sv[0];
}

static int join_refused(void)
{
	int sv[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
	assert_int_equal(host_serve(&host, sv[1]), -EAGAIN);
	return sv[0];
}

static void say(int fd, const char *line)
{
	assert_int_equal(send(fd, line, strlen(line), MSG_NOSIGNAL), strlen(line));
}

static bool readable(int fd, int ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, ms) > 0;
}

/* A line without its end into a buffer of its own; "" at the end of the connection. */
static const char *hear(int fd)
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

static json_t *parse(const char *line)
{
	json_t *obj = json_loads(line, JSON_REJECT_DUPLICATES, NULL);

	if (!obj)
		fail_msg("not JSON: '%s'", line);
	return obj;
}

static json_t *ask(int fd, const char *line)
{
	say(fd, line);
	say(fd, "\n");
	return parse(hear(fd));
}

static json_t *ask_alone(const char *line)
{
	int fd = join();
	json_t *reply = ask(fd, line);

	close(fd);
	return reply;
}

static const json_t *get(const json_t *obj, const char *key)
{
	const json_t *value = json_object_get(obj, key);

	if (!value)
		fail_msg("no '%s'", key);
	return value;
}

static void assert_ok(json_t *reply)
{
	if (!json_is_true(get(reply, "ok")))
		fail_msg("refused: %s", json_string_value(get(reply, "error")));
	json_decref(reply);
}

static bool is_over(int ms)
{
	return readable(host.done, ms);
}

static void sleep_ms(int ms)
{
	poll(NULL, 0, ms);
}

static void await_clients(unsigned n)
{
	uint64_t until = now_ns() + SOON_MS * 1000000ull;

	for (;;) {
		unsigned now;

		pthread_mutex_lock(&host.lock);
		now = host.n_clients;
		pthread_mutex_unlock(&host.lock);
		if (now == n)
			return;
		assert_true(now_ns() < until);
		sleep_ms(5);
	}
}

static void await_members(size_t n)
{
	uint64_t until = now_ns() + SOON_MS * 1000000ull;

	for (;;) {
		size_t now;

		pthread_mutex_lock(&host.lock);
		now = host.n_members;
		pthread_mutex_unlock(&host.lock);
		if (now == n)
			return;
		assert_true(now_ns() < until);
		sleep_ms(5);
	}
}

static void await_room(void)
{
	uint64_t until = now_ns() + SOON_MS * 1000000ull;

	for (; host_crowded(&host); sleep_ms(5))
		assert_true(now_ns() < until);
}

/* ---- the tests ---- */

static void end_the_parent(struct ramet_family *f)
{
	f->in_wait = NULL;
	fake_end(booted, RAMET_STOPPED, -1, NULL);
	sleep_ms(400); /* the keeper looks every 50 ms */
}

/* The parent stops while its clones, which have been acknowledged to nobody yet, are waited for. */
static void test_clones_outlive_their_parent(void **state)
{
	json_t *reply;

	family.in_wait = end_the_parent;
	reply = ask_alone("{\"op\":\"fork\",\"vm\":\"web\",\"count\":3}");
	assert_int_equal(json_array_size(get(reply, "clones")), 3);
	assert_ok(reply);
	assert_false(is_over(400));
	assert_ok(ask_alone("{\"op\":\"stop\",\"vm\":\"web.1\"}"));
	assert_ok(ask_alone("{\"op\":\"stop\",\"vm\":\"web.2\"}"));
	assert_false(is_over(400));
	assert_ok(ask_alone("{\"op\":\"stop\",\"vm\":\"web.3\"}"));
	assert_true(is_over(SOON_MS));
}

static void test_ready_has_one_deadline(void **state)
{
	uint64_t start = now_ns();
	json_t *reply;

	family.silent_clones = true;
	reply = ask_alone("{\"op\":\"fork\",\"vm\":\"web\",\"count\":50,\"ready_timeout_ms\":300}");
	assert_in_range(now_ns() - start, 300000000, 7500000000); /* each: 15 s */
	assert_int_equal(json_integer_value(get(reply, "not_ready")), 50);
	assert_int_equal(json_integer_value(get(reply, "ready_timeout_ms")), 300);
	assert_true(json_is_null(get(json_array_get(get(reply, "clones"), 49), "ready_ns")));
	assert_ok(reply);
}

static void test_long_timeouts(void **state)
{
	static const char *const ms[] = { "18446744073710", "18446744073709", "9223372036855",
		"9223372036854775807", "-1", "-9223372036854775808" };
	char line[160];
	int fd[6];

	for (unsigned i = 0; i < 6; i++) {
		fd[i] = join();
		snprintf(line, sizeof(line),
			"{\"op\":\"wait\",\"vm\":\"web\",\"event\":\"phase\",\"value\":1,"
			"\"timeout_ms\":%s}\n",
			ms[i]);
		say(fd[i], line);
	}
	for (unsigned i = 0; i < 6; i++)
		assert_false(readable(fd[i], 100));
	booted->st.phase = 1;
	for (unsigned i = 0; i < 6; i++) {
		assert_ok(parse(hear(fd[i])));
		close(fd[i]);
	}
}

static void test_half_closed_is_alive(void **state)
{
	int fd = join(), gone = join();

	say(fd, "{\"op\":\"wait\",\"vm\":\"web\",\"event\":\"phase\",\"value\":1}");
	shutdown(fd, SHUT_WR);
	say(gone, "{\"op\":\"wait\",\"vm\":\"web\",\"event\":\"phase\",\"value\":1}\n");
	await_clients(2);
	close(gone);
	await_clients(1);
	assert_false(readable(fd, 400));
	booted->st.phase = 1;
	assert_ok(parse(hear(fd)));
	assert_string_equal(hear(fd), "");
	close(fd);
}

static void test_refusals(void **state)
{
	static const struct {
		const char *line, *code, *error;
	} bad[] = {
		{ "{}", "EPROTO", "'op' is missing" },
		{ "{\"op\":1}", "EPROTO", "'op' must be a string" },
		{ "{\"op\":\"x\"}", "EPROTO", "there is no operation 'x'" },
		{ "{\"op\":\"list\",\"x\":1}", "EPROTO", "operation 'list' has no field 'x'" },
		{ "{\"op\":\"stop-all\",\"x\":1}", "EPROTO", "'stop-all' has no field 'x'" },
		{ "{\"op\":\"hello\",\"vm\":1}", "EPROTO", "'hello' has no field 'vm'" },
		{ "{\"op\":\"stat\"}", "EPROTO", "'vm' is missing: a string" },
		{ "{\"op\":\"stat\",\"vm\":1}", "EPROTO",
			"'vm' must be a string, not a whole number" },
		{ "{\"op\":\"stat\",\"vm\":\"x\"}", "ESRCH", "there is no VM 'x'" },
		{ "{\"op\":\"stat\",\"vm\":\"\xc3\xa9\"}", "ESRCH", "there is no VM '" },
		{ "{\"op\":\"reset\",\"vm\":\"web\"}", "EINVAL", "cannot reset 'web'" },
		{ "{\"op\":\"fork\",\"vm\":\"web\",\"count\":\"1\"}", "EPROTO",
			"'count' must be a whole number from 1 to 4096, not a string" },
		{ "{\"op\":\"fork\",\"vm\":\"web\",\"count\":1.5}", "EPROTO", "a fraction" },
		{ "{\"op\":\"fork\",\"vm\":\"web\",\"count\":0}", "EINVAL",
			"from 1 to 4096, not 0" },
		{ "{\"op\":\"fork\",\"vm\":\"web\",\"run\":1}", "EPROTO",
			"'run' must be true or false" },
		{ "{\"op\":\"read\",\"vm\":\"web\",\"gpa\":-1,\"size\":1}", "EINVAL",
			"'gpa' must be a whole number, at least 0, not -1" },
		{ "{\"op\":\"read\",\"vm\":\"web\",\"gpa\":0,\"size\":0}", "EINVAL",
			"'size' must be a whole number from 1 to 1048576, not 0" },
		{ "{\"op\":\"wait\",\"vm\":\"web\",\"event\":\"doom\"}", "EINVAL",
			"there is no event 'doom'" },
		{ "{\"op\":\"wait\",\"vm\":\"web\",\"event\":\"phase\",\"value\":-1}", "EINVAL",
			"'value' must be" },
		{ "{\"op\":\"wait\",\"vm\":\"web\",\"event\":null}", "EPROTO", "not null" },
	};
	int fd = join();

	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		json_t *reply = ask(fd, bad[i].line);
		const char *error = json_string_value(get(reply, "error"));

		if (!strstr(error, bad[i].error))
			fail_msg("%s: '%s'", bad[i].line, error);
		assert_string_equal(json_string_value(get(reply, "code")), bad[i].code);
		assert_true(json_integer_value(get(reply, "errno")) > 0);
		json_decref(reply);
	}
	assert_ok(ask(fd, "{\"op\":\"hello\"}"));
	close(fd);
}

static void test_nulls(void **state)
{
	json_t *reply = ask_alone("{\"op\":\"stat\",\"vm\":\"web\"}"), *vm;

	vm = json_object_get(reply, "vm");
	assert_true(json_is_null(get(vm, "parent_id")));
	assert_true(json_is_null(get(vm, "exit_status")));
	assert_true(json_is_null(get(vm, "failure")));
	assert_true(json_is_null(get(vm, "report")));
	assert_true(json_is_null(get(vm, "report_gpa")));
	assert_int_equal(json_integer_value(get(vm, "private_bytes")), 4096);
	assert_string_equal(json_string_value(get(vm, "phase_name")), "boot");
	json_decref(reply);
	reply = ask_alone("{\"op\":\"wait\",\"vm\":\"web\",\"event\":\"ready\"}");
	vm = json_object_get(reply, "vm");
	assert_true(json_is_null(get(vm, "private_bytes")));
	assert_true(json_is_null(get(vm, "tables_shared")));
	json_decref(reply);
}

/* ---- what went wrong ---- */

static json_t *stopped_reply(const char *name)
{
	char line[128];

	snprintf(line, sizeof(line), "{\"op\":\"wait\",\"vm\":\"%s\",\"event\":\"stopped\"}", name);
	return ask_alone(line);
}

static void assert_status(json_t *reply, int status)
{
	assert_int_equal(json_integer_value(get(get(reply, "vm"), "exit_status")), status);
	assert_ok(reply);
}

static void assert_listed(const char *key, const char *value)
{
	json_t *reply = ask_alone("{\"op\":\"list\"}");
	const json_t *vms = get(reply, "vms");

	assert_int_equal(json_array_size(vms), 1);
	assert_string_equal(json_string_value(get(json_array_get(vms, 0), key)), value);
	json_decref(reply);
}

static void assert_listed_count(size_t n)
{
	json_t *reply = ask_alone("{\"op\":\"list\"}");

	assert_int_equal(json_array_size(get(reply, "vms")), n);
	json_decref(reply);
}

static void test_failed_family_stays(void **state)
{
	json_t *reply;

	host.keep = true;
	console_log_write(&host.consoles, 0, "last words\n", 11);
	fake_end(booted, RAMET_FAILED, -1, "triple fault");
	assert_false(is_over(400));
	assert_listed("failure", "triple fault");
	reply = ask_alone("{\"op\":\"hello\"}");
	assert_string_equal(json_string_value(get(get(reply, "ended"), "failure")), "triple fault");
	assert_ok(reply);
	for (unsigned i = 0; i < 2; i++) {
		int fd = join();

		assert_ok(ask(fd, "{\"op\":\"console\",\"vm\":\"web\"}"));
		assert_string_equal(hear(fd), "last words");
		close(fd);
	}
	assert_ok(ask_alone("{\"op\":\"stop\",\"vm\":\"web\"}"));
	assert_true(is_over(SOON_MS));
}

static void test_family_with_a_bad_status_stays(void **state)
{
	json_t *reply;
	int fd;

	host.keep = true;
	console_log_write(&host.consoles, 0, "bad argument\n", 13);
	fake_end(booted, RAMET_STOPPED, 3, NULL);
	assert_status(stopped_reply("web"), 3); /* at once */
	assert_false(is_over(400));
	assert_status(stopped_reply("web"), 3);
	assert_status(ask_alone("{\"op\":\"stat\",\"vm\":\"web\"}"), 3);
	assert_listed("state", "stopped");
	reply = ask_alone("{\"op\":\"fork\",\"vm\":\"web\"}");
	assert_non_null(strstr(json_string_value(get(reply, "error")), "ended, with status 3"));
	json_decref(reply);
	fd = join();
	assert_ok(ask(fd, "{\"op\":\"console\",\"vm\":\"web\"}"));
	assert_string_equal(hear(fd), "bad argument");
	assert_string_equal(hear(fd), "");
	close(fd);
	assert_ok(ask_alone("{\"op\":\"stop\",\"vm\":\"web\"}"));
	assert_true(is_over(SOON_MS));
}

static void test_others_end_with_their_last_vm(void **state)
{
	/* Not told to stay. */
	fake_end(booted, RAMET_FAILED, -1, "triple fault");
	assert_true(is_over(SOON_MS));
	teardown(state);
	/* All went well. */
	setup(state);
	host.keep = true;
	fake_end(booted, RAMET_STOPPED, 0, NULL);
	assert_true(is_over(SOON_MS));
	teardown(state);
	/* A clone went wrong long before the last was stopped. */
	setup(state);
	host.keep = true;
	assert_ok(ask_alone("{\"op\":\"fork\",\"vm\":\"web\"}"));
	fake_end(family.vm[1], RAMET_FAILED, -1, "triple fault");
	assert_false(is_over(400));
	assert_ok(ask_alone("{\"op\":\"stop\",\"vm\":\"web\"}"));
	assert_true(is_over(SOON_MS));
}

static void test_ended_clones_are_remembered(void **state)
{
	json_t *reply = ask_alone("{\"op\":\"fork\",\"vm\":\"web\",\"count\":70}");
	struct ramet_stat st;

	assert_ok(reply);
	for (unsigned i = 1; i <= 70; i++) {
		fake_end(family.vm[i], RAMET_STOPPED, i == 70 ? 7 : 0, NULL);
		if (i >= 69)
			await_members(71 - i);
	}
	assert_listed_count(2); /* the parent and the one that went wrong */
	assert_status(stopped_reply("web.70"), 7);
	assert_status(stopped_reply("web.7"), 0);
	assert_false(host_ended(&host, "web.6", &st));
	assert_ok(ask_alone("{\"op\":\"stop\",\"vm\":\"web.70\"}"));
	assert_listed_count(1);
	assert_status(stopped_reply("web.69"), 0);
}

/* ---- many clients ---- */

/* Silent ones fill all places. Brief requests get through at once, or as soon as one of the last
 * places is free again; the others when the silent ones have been sent away. */
static void test_silent_clients_make_room(void **state)
{
	int fd[HOST_CLIENTS_MAX], late;
	json_t *reply;

	for (unsigned i = 0; i < HOST_CLIENTS_MAX - HOST_CLIENTS_RESERVED; i++)
		fd[i] = join();
	reply = ask_alone("{\"op\":\"fork\",\"vm\":\"web\"}");
	assert_string_equal(json_string_value(get(reply, "code")), "EAGAIN");
	json_decref(reply);
	assert_ok(ask_alone("{\"op\":\"list\"}"));
	await_clients(HOST_CLIENTS_MAX - HOST_CLIENTS_RESERVED);
	for (unsigned i = HOST_CLIENTS_MAX - HOST_CLIENTS_RESERVED; i < HOST_CLIENTS_MAX; i++)
		fd[i] = join();
	late = join_refused();
	reply = parse(hear(late));
	assert_string_equal(json_string_value(get(reply, "code")), "EAGAIN");
	assert_string_equal(json_string_value(get(reply, "error")), "too many clients");
	json_decref(reply);
	close(late);
	await_room();
	assert_ok(ask_alone("{\"op\":\"fork\",\"vm\":\"web\"}"));
	/* Told why, those of the last places all, the others as far as there was need. */
	for (unsigned i = HOST_CLIENTS_MAX - HOST_CLIENTS_RESERVED; i < HOST_CLIENTS_MAX; i++) {
		reply = parse(hear(fd[i]));
		assert_string_equal(json_string_value(get(reply, "code")), "ETIMEDOUT");
		json_decref(reply);
		assert_string_equal(hear(fd[i]), "");
	}
	for (unsigned i = 0; i < HOST_CLIENTS_MAX; i++)
		close(fd[i]);
}

/* Those that have asked for something, and wait for it, are not sent away. */
static void test_waiting_clients_stay(void **state)
{
	int fd[HOST_CLIENTS_MAX - HOST_CLIENTS_RESERVED];

	for (unsigned i = 0; i < HOST_CLIENTS_MAX - HOST_CLIENTS_RESERVED; i++) {
		fd[i] = join();
		say(fd[i], "{\"op\":\"wait\",\"vm\":\"web\",\"event\":\"phase\",\"value\":1}\n");
	}
	for (unsigned i = 0; i < 30; i++) {
		assert_ok(ask_alone("{\"op\":\"list\"}"));
		await_clients(HOST_CLIENTS_MAX - HOST_CLIENTS_RESERVED);
		sleep_ms(100);
	}
	booted->st.phase = 1;
	for (unsigned i = 0; i < HOST_CLIENTS_MAX - HOST_CLIENTS_RESERVED; i++) {
		assert_ok(parse(hear(fd[i])));
		close(fd[i]);
	}
}

/* One that takes no replies holds its place for a while only; the process ends without it. */
static void test_client_that_does_not_read(void **state)
{
	char ask[] = "{\"op\":\"read\",\"vm\":\"web\",\"gpa\":0,\"size\":1048576}\n";
	int fd[HOST_CLIENTS_MAX - HOST_CLIENTS_RESERVED];

	for (unsigned i = 0; i < HOST_CLIENTS_MAX - HOST_CLIENTS_RESERVED; i++) {
		fd[i] = join();
		say(fd[i], ask);
	}
	assert_true(host_crowded(&host));
	await_room();
	sleep_ms(100);
	host_close(&host);
	for (unsigned i = 0; i < HOST_CLIENTS_MAX - HOST_CLIENTS_RESERVED; i++)
		close(fd[i]);
	setup(state);
}

/* ---- no memory ---- */

static atomic_int until_failure; /* allocations of jansson's; negative: none fails */

static void *scarce(size_t size)
{
	return atomic_fetch_sub(&until_failure, 1) == 0 ? NULL : malloc(size);
}

/* The reply when jansson's n-th allocation, and no other, fails. */
static json_t *ask_with(int fd, const char *line, int n)
{
	const char *answer;

	atomic_store(&until_failure, n);
	say(fd, line);
	answer = hear(fd);
	atomic_store(&until_failure, -1);
	return parse(answer);
}

static void test_no_memory(void **state)
{
	static const struct {
		const char *line, *keys;
	} op[] = {
		{ "{\"op\":\"hello\"}\n", "protocol" },
		{ "{\"op\":\"list\"}\n", "vms family" },
		{ "{\"op\":\"stat\",\"vm\":\"web\"}\n", "vm family" },
		{ "{\"op\":\"fork\",\"vm\":\"web\",\"memory\":true}\n", "clones before after" },
		{ "{\"op\":\"wait\",\"vm\":\"web\",\"event\":\"ready\"}\n", "vm" },
		{ "{\"op\":\"pause\",\"vm\":\"web\"}\n", "ok" },
	};

	json_set_alloc_funcs(scarce, free);
	for (unsigned i = 0; i < sizeof(op) / sizeof(op[0]); i++)
		for (int n = 0;; n++) {
			int fd = join();
			json_t *reply = ask_with(fd, op[i].line, n);
			bool ok = json_is_true(get(reply, "ok"));
			const char *code = ok ? "" : json_string_value(get(reply, "code"));
			char keys[64], *save, *key;

			strcpy(keys, op[i].keys);
			for (key = strtok_r(keys, " ", &save); ok && key;
				key = strtok_r(NULL, " ", &save))
				get(reply, key);
			/* jansson calls some of its own failures bad syntax. */
			if (!ok && strcmp(code, "EPROTO"))
				assert_string_equal(code, "ENOMEM");
			json_decref(reply);
			close(fd);
			if (ok)
				break;
			assert_true(n < 10000);
		}
	json_set_alloc_funcs(malloc, free);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_clones_outlive_their_parent, setup, teardown),
		cmocka_unit_test_setup_teardown(test_ready_has_one_deadline, setup, teardown),
		cmocka_unit_test_setup_teardown(test_long_timeouts, setup, teardown),
		cmocka_unit_test_setup_teardown(test_half_closed_is_alive, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refusals, setup, teardown),
		cmocka_unit_test_setup_teardown(test_nulls, setup, teardown),
		cmocka_unit_test_setup_teardown(test_failed_family_stays, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_family_with_a_bad_status_stays, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_others_end_with_their_last_vm, setup, teardown),
		cmocka_unit_test_setup_teardown(test_ended_clones_are_remembered, setup, teardown),
		cmocka_unit_test_setup_teardown(test_silent_clients_make_room, setup, teardown),
		cmocka_unit_test_setup_teardown(test_waiting_clients_stay, setup, teardown),
		cmocka_unit_test_setup_teardown(test_client_that_does_not_read, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_memory, setup, teardown),
	};
	char dir[] = "/tmp/ramet-host.XXXXXX";
	int failed;

	if (!mkdtemp(dir))
		return 1;
	setenv("RAMET_RUNTIME_DIR", dir, 1);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	rmdir(dir);
	return failed;
}
