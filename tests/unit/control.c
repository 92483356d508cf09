// SPDX-License-Identifier: Apache-2.0
/* Requests on the control socket, as clients see them. */
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "host-common.h"
#include "vmm/base/clock.h"

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

/* A reply to a fork counts no memory, unless the client asks for that. */
static void test_fork_counts_on_request(void **state)
{
	json_t *reply = ask_alone("{\"op\":\"fork\",\"vm\":\"web\",\"count\":3}");
	const json_t *clone = json_array_get(get(reply, "clones"), 2);

	assert_int_equal(atomic_load(&family.counts), 0);
	assert_int_equal(json_integer_value(get(clone, "private_bytes")), 0);
	assert_int_equal(json_integer_value(get(clone, "table_bytes")), 0);
	assert_int_equal(json_integer_value(get(clone, "tables_shared")), FAKE_TABLES);
	assert_ok(reply);
	reply = ask_alone("{\"op\":\"fork\",\"vm\":\"web\",\"count\":3,\"memory\":true}");
	clone = json_array_get(get(reply, "clones"), 2);
	assert_int_equal(json_integer_value(get(clone, "private_bytes")), 4096);
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
	fake_phase(booted, 1);
	for (unsigned i = 0; i < 6; i++) {
		assert_ok(parse(hear(fd[i])));
		close(fd[i]);
	}
}

static unsigned waits(void)
{
	unsigned n;

	pthread_mutex_lock(&family.lock);
	n = family.waits;
	pthread_mutex_unlock(&family.lock);
	return n;
}

/* While there is no event, a waiting session does not call ramet_wait() again. */
static void test_wait_looks_when_something_happens(void **state)
{
	int fd = join();

	say(fd, "{\"op\":\"wait\",\"vm\":\"web\",\"event\":\"phase\",\"value\":2}\n");
	assert_false(readable(fd, 800));
	assert_in_range(waits(), 0, 2);
	fake_phase(booted, 1);
	assert_false(readable(fd, 400));
	assert_in_range(waits(), 0, 3);
	fake_phase(booted, 2);
	assert_ok(parse(hear(fd)));
	close(fd);
}

static size_t typed(unsigned *inputs)
{
	size_t n;

	pthread_mutex_lock(&family.lock);
	n = family.typed;
	*inputs = family.inputs;
	pthread_mutex_unlock(&family.lock);
	return n;
}

/* Input that a guest does not take yet is offered again when the guest has made room. */
static void test_input_waits_for_room(void **state)
{
	uint64_t until = now_ns() + SOON_MS * 1000000ull;
	unsigned inputs;
	int fd = join();

	fake_full(booted, true);
	assert_ok(ask(fd, "{\"op\":\"console\",\"vm\":\"web\"}"));
	say(fd, "keys");
	sleep_ms(500);
	assert_int_equal(typed(&inputs), 0);
	assert_in_range(inputs, 1, 5); /* not every 2 ms */
	fake_full(booted, false);
	while (typed(&inputs) < 4) {
		assert_true(now_ns() < until);
		sleep_ms(5);
	}
	close(fd);
}

/* Lets the process make `spare` more descriptors, whose numbers are the next ones. Returns the
 * limit that held before. */
static struct rlimit leave_descriptors(unsigned spare)
{
	struct rlimit was, few;
	int next[4];

	for (unsigned i = 0; i <= spare; i++)
		assert_true((next[i] = dup(STDOUT_FILENO)) >= 0);
	for (unsigned i = 0; i <= spare; i++)
		close(next[i]);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &was), 0);
	few = was;
	few.rlim_cur = (rlim_t)next[spare];
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	return was;
}

/* Without an eventfd, a wait and a console look from time to time. The console's log needs one. */
static void test_no_descriptors(void **state)
{
	uint64_t until = now_ns() + SOON_MS * 1000000ull;
	int console = join(), wait = join();
	struct rlimit was = leave_descriptors(1);
	unsigned inputs;

	fake_full(booted, true);
	assert_ok(ask(console, "{\"op\":\"console\",\"vm\":\"web\"}"));
	say(console, "keys");
	assert_false(readable(console, 300)); /* it has not ended */
	say(wait, "{\"op\":\"wait\",\"vm\":\"web\",\"event\":\"phase\",\"value\":2}\n");
	assert_false(readable(wait, 300));
	fake_full(booted, false);
	fake_phase(booted, 2);
	assert_ok(parse(hear(wait)));
	while (typed(&inputs) < 4) {
		assert_true(now_ns() < until);
		sleep_ms(5);
	}
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &was), 0);
	close(console);
	close(wait);
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
	fake_phase(booted, 1);
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

/* ---- no memory ---- */

static atomic_int until_failure; /* jansson's allocations until one fails; negative: none fails */

static void *scarce(size_t size)
{
	return atomic_fetch_sub(&until_failure, 1) == 0 ? NULL : malloc(size);
}

/* The reply when only jansson's n-th allocation fails. */
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
			/* jansson reports some failed allocations as bad syntax. */
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

static int run(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_ready_has_one_deadline, setup, teardown),
		cmocka_unit_test_setup_teardown(test_fork_counts_on_request, setup, teardown),
		cmocka_unit_test_setup_teardown(test_long_timeouts, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_wait_looks_when_something_happens, setup, teardown),
		cmocka_unit_test_setup_teardown(test_input_waits_for_room, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_descriptors, setup, teardown),
		cmocka_unit_test_setup_teardown(test_half_closed_is_alive, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refusals, setup, teardown),
		cmocka_unit_test_setup_teardown(test_nulls, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_memory, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(void)
{
	return run_with_runtime_dir(run);
}
