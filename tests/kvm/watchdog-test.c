/* SPDX-License-Identifier: Apache-2.0 */
/* The watchdog itself: a program that hangs or gets SIGTERM prints the stack of each thread. */
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/kvm/common.h"
#include "tests/kvm/watchdog.h"

void *hang_here(void *arg); /* not static, so that its name is printed */
void *hang_here(void *arg)
{
	for (;;)
		pause();
	return arg;
}

static _Noreturn void hang(int output)
{
	pthread_t thread;

	dup2(output, STDERR_FILENO);
	setenv("RAMET_SLOWER", "1", 1);
	unsetenv("RAMET_EMULATED");
	watchdog_start(2);
	pthread_create(&thread, NULL, hang_here, NULL);
	pthread_join(thread, NULL);
	_exit(0);
}

/* Returns the output of a process that hangs; `sig`: a signal that it is sent. */
static void run(int sig, char *said, size_t size)
{
	int ends[2], status;
	size_t len = 0;
	ssize_t n;
	pid_t pid;

	assert_int_equal(pipe(ends), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid)
		hang(ends[1]);
	close(ends[1]);
	if (sig) {
		usleep(500000);
		kill(pid, sig);
	}
	while (len < size - 1 && (n = read(ends[0], said + len, size - 1 - len)) > 0)
		len += (size_t)n;
	said[len] = '\0';
	close(ends[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	print_message("%s", said);
	assert_non_null(strstr(said, "hang_here"));
	assert_non_null(strstr(said, "syscall: "));
}

static void test_hang(void **state)
{
	static char said[32768];

	run(0, said, sizeof(said));
	assert_non_null(strstr(said, "nothing has moved for 2 s"));
}

static void test_told_to_end(void **state)
{
	static char said[32768];

	run(SIGTERM, said, sizeof(said));
	assert_non_null(strstr(said, "told to end"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hang),
		cmocka_unit_test(test_told_to_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
