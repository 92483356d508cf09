/* SPDX-License-Identifier: Apache-2.0 */
/* In the sandbox: no program, no process, no network, no signal to others; threads work. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "vmm/cmd/sandbox.h"

static void *thread(void *arg)
{
	*(int *)arg = 42;
	return NULL;
}

/* A process cannot leave the sandbox, so this test is the last one. */
static void test_inside(void **state)
{
	struct ramet_err err;
	pthread_t t;
	int seen = 0;

	assert_int_equal(execl("/nonexistent", "/nonexistent", NULL), -1);
	assert_int_equal(errno, ENOENT);
	assert_int_equal(sandbox_enter(&err), 0);
	assert_int_equal(execl("/nonexistent", "/nonexistent", NULL), -1);
	assert_int_equal(errno, EPERM);
	assert_int_equal(fork(), -1);
	assert_int_equal(errno, EPERM);
	assert_int_equal(socket(AF_INET, SOCK_STREAM, 0), -1);
	assert_int_equal(errno, EPERM);
	assert_int_equal(kill(getppid(), 0), -1);
	assert_int_equal(errno, EPERM);
	assert_int_equal(setuid(getuid()), -1);
	assert_int_equal(errno, EPERM);
	assert_int_equal(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 1);
	assert_int_equal(pthread_create(&t, NULL, thread, &seen), 0);
	assert_int_equal(pthread_join(t, NULL), 0);
	assert_int_equal(seen, 42);
	assert_int_equal(pthread_kill(pthread_self(), 0), 0);
}

int main(void)
{
#ifdef __SANITIZE_ADDRESS__
	return 77; /* there is no sandbox then, see sandbox.c */
#endif
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_inside) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
