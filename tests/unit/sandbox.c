/* SPDX-License-Identifier: Apache-2.0 */
/* In the sandbox: no program, no process, no network, no signal to others; threads work. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "vmm/sandbox.h"

static void *thread(void *arg)
{
	*(int *)arg = 42;
	return NULL;
}

/* In a process of its own, for there is no way out of it. Returns which expectation failed. */
static int inside(void)
{
	struct ramet_err err;
	pthread_t t;
	int seen = 0;

	if (execl("/nonexistent", "/nonexistent", NULL) != -1 || errno != ENOENT)
		return 1;
	if (sandbox_enter(&err))
		return 2;
	if (execl("/nonexistent", "/nonexistent", NULL) != -1 || errno != EPERM)
		return 3;
	if (fork() != -1 || errno != EPERM)
		return 4;
	if (socket(AF_INET, SOCK_STREAM, 0) != -1 || errno != EPERM)
		return 5;
	if (kill(getppid(), 0) != -1 || errno != EPERM)
		return 6;
	if (setuid(getuid()) != -1 || errno != EPERM)
		return 7;
	if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1)
		return 8;
	if (pthread_create(&t, NULL, thread, &seen) || pthread_join(t, NULL) || seen != 42)
		return 9;
	if (pthread_kill(pthread_self(), 0))
		return 10;
	return 0;
}

static void test_inside(void **state)
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (!pid)
		_exit(inside());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_inside) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
