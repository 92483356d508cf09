// SPDX-License-Identifier: Apache-2.0
/* A family's process: when it ends, which VMs it remembers, and the places for its clients. */
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

#include "host-common.h"
#include "vmm/base/clock.h"

static void end_the_parent(struct ramet_family *f)
{
	f->in_wait = NULL;
	fake_end(booted, RAMET_STOPPED, -1, NULL);
	sleep_ms(400);
}

/* The parent stops while the fork waits for its clones and has not replied to the client yet. */
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

/* ---- VMs that went wrong ---- */

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
	console_log_write(host_console_log(booted), "last words\n", 11);
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

static void assert_last_words(void)
{
	int fd = join();

	assert_ok(ask(fd, "{\"op\":\"console\",\"vm\":\"web\"}"));
	assert_string_equal(hear(fd), "last words");
	assert_string_equal(hear(fd), "");
	close(fd);
	await_clients(0);
}

static void (*tell_host)(void *arg, struct ramet_vm *vm, uint64_t alive);

static void read_before_told(void *arg, struct ramet_vm *vm, uint64_t alive)
{
	assert_last_words();
	tell_host(arg, vm, alive);
}

/* A client that comes after a failure, and before the host knows of that, takes nothing away. */
static void test_console_before_the_end_is_told(void **state)
{
	host.keep = true;
	console_log_write(host_console_log(booted), "last words\n", 11);
	tell_host = family.cfg.ended;
	family.cfg.ended = read_before_told;
	fake_end(booted, RAMET_FAILED, -1, "triple fault");
	assert_last_words();
	assert_ok(ask_alone("{\"op\":\"stop\",\"vm\":\"web\"}"));
	assert_true(is_over(SOON_MS));
}

static void test_family_with_a_bad_status_stays(void **state)
{
	json_t *reply;
	int fd;

	host.keep = true;
	console_log_write(host_console_log(booted), "bad argument\n", 13);
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
	/* The process was not told to stay. */
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
	for (unsigned i = 1; i <= 70; i++)
		fake_end(family.vm[i], RAMET_STOPPED, i == 70 ? 7 : 0, NULL);
	assert_listed_count(2); /* the parent and the one that went wrong */
	assert_status(stopped_reply("web.70"), 7);
	assert_status(stopped_reply("web.7"), 0);
	assert_false(host_ended(&host, "web.6", &st, NULL));
	assert_ok(ask_alone("{\"op\":\"stop\",\"vm\":\"web.70\"}"));
	assert_listed_count(1);
	assert_status(stopped_reply("web.69"), 0);
}

/* ---- many clients ---- */

/* Silent clients fill all places. Brief requests get through at once, or as soon as one of the last
 * places is free again. Other requests get through when the silent clients have been sent away. */
static void test_silent_clients_make_room(void **state)
{
	int fd[4 * HOST_CLIENTS_MAX];
	unsigned n = 0;
	json_t *reply;

	/* On a loaded machine the first clients are sent away before the last ones have connected.
	 */
	while (n < 4 * HOST_CLIENTS_MAX && !join_any(&fd[n]))
		n++;
	assert_true(n < 4 * HOST_CLIENTS_MAX);
	reply = parse(hear(fd[n]));
	assert_string_equal(json_string_value(get(reply, "code")), "EAGAIN");
	assert_string_equal(json_string_value(get(reply, "error")), "too many clients");
	assert_true(json_is_true(get(reply, "busy")));
	json_decref(reply);
	assert_string_equal(hear(fd[n]), "");
	await_room();
	assert_ok(ask_alone("{\"op\":\"fork\",\"vm\":\"web\"}"));
	/* The last clients get a reason, because they had a place for brief requests. */
	reply = parse(hear(fd[n - 1]));
	assert_string_equal(json_string_value(get(reply, "code")), "ETIMEDOUT");
	json_decref(reply);
	assert_string_equal(hear(fd[n - 1]), "");
	for (unsigned i = 0; i <= n; i++)
		close(fd[i]);
}

/* Clients that wait for the result of a request are not sent away. */
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
	fake_phase(booted, 1);
	for (unsigned i = 0; i < HOST_CLIENTS_MAX - HOST_CLIENTS_RESERVED; i++) {
		assert_ok(parse(hear(fd[i])));
		close(fd[i]);
	}
}

/* A client that reads no replies keeps its place only for a while. The process ends without it. */
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

static int run(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			test_family_with_a_bad_status_stays, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_others_end_with_their_last_vm, setup, teardown),
		cmocka_unit_test_setup_teardown(test_clones_outlive_their_parent, setup, teardown),
		cmocka_unit_test_setup_teardown(test_failed_family_stays, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_console_before_the_end_is_told, setup, teardown),
		cmocka_unit_test_setup_teardown(test_ended_clones_are_remembered, setup, teardown),
		cmocka_unit_test_setup_teardown(test_silent_clients_make_room, setup, teardown),
		cmocka_unit_test_setup_teardown(test_waiting_clients_stay, setup, teardown),
		cmocka_unit_test_setup_teardown(test_client_that_does_not_read, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(void)
{
	return run_with_runtime_dir(run);
}
