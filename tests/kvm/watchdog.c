/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/kvm/watchdog.h"

#include <dirent.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* The library uses the first real-time signals to interrupt vCPUs. */
#define STACK_SIGNAL (SIGRTMIN + 5)
#define FRAMES	     64

static struct {
	atomic_uint seconds; /* 0: not started */
	atomic_ulong moves;
	atomic_int printed; /* a thread that was asked has printed its stack */
	DIR *threads;
} dog;

static void print_own_stack(int sig)
{
	void *frame[FRAMES];
	int error = errno;

	backtrace_symbols_fd(frame, backtrace(frame, FRAMES), STDERR_FILENO);
	atomic_store(&dog.printed, 1);
	errno = error;
}

/* Prints the kernel's information on a thread: where it waits, and in which system call. */
static void print_file(const char *tid, const char *name)
{
	char path[64], text[2048];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/self/task/%.16s/%s", tid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (fd >= 0)
		close(fd);
	if (n <= 0)
		return;
	while (n > 0 && text[n - 1] == '\n')
		n--;
	dprintf(STDERR_FILENO, "  %s: %.*s\n", name, (int)n, text);
}

static void print_thread(const char *tid)
{
	dprintf(STDERR_FILENO, "watchdog: thread %s\n", tid);
	print_file(tid, "comm");
	print_file(tid, "wchan");
	print_file(tid, "syscall");
	print_file(tid, "stack");
	atomic_store(&dog.printed, 0);
	if (syscall(SYS_tgkill, getpid(), atoi(tid), STACK_SIGNAL))
		return;
	/* One thread after the other, so that lines do not mix. A thread may never answer. */
	for (int i = 0; i < 200 && !atomic_load(&dog.printed); i++)
		usleep(5000);
	if (!atomic_load(&dog.printed))
		dprintf(STDERR_FILENO, "  it does not answer\n");
}

/* Called early, because it takes memory and locks, which a hanging thread may hold. */
static void prepare(void)
{
	struct sigaction action = { .sa_handler = print_own_stack, .sa_flags = SA_RESTART };
	void *frame[1];

	backtrace(frame, 1); /* the first call loads a library */
	sigaction(STACK_SIGNAL, &action, NULL);
	dog.threads = opendir("/proc/self/task");
}

void watchdog_print_stacks(void)
{
	struct dirent *entry;

	if (!dog.threads)
		return;
	rewinddir(dog.threads);
	while ((entry = readdir(dog.threads)))
		if (entry->d_name[0] != '.')
			print_thread(entry->d_name);
}

static _Noreturn void bark(void)
{
	watchdog_print_stacks();
	abort();
}

static void *watch(void *arg)
{
	const struct timespec second = { .tv_sec = 1 };
	unsigned long seen = 0;
	sigset_t term;

	sigemptyset(&term);
	sigaddset(&term, SIGTERM);
	for (unsigned idle = 0;; idle++) {
		unsigned long moves = atomic_load(&dog.moves);

		if (moves != seen)
			idle = 0;
		seen = moves;
		if (idle >= atomic_load(&dog.seconds)) {
			dprintf(STDERR_FILENO, "watchdog: nothing has moved for %u s\n", idle);
			bark();
		}
		if (sigtimedwait(&term, NULL, &second) == SIGTERM) {
			dprintf(STDERR_FILENO, "watchdog: told to end\n");
			bark();
		}
	}
	return NULL;
}

void watchdog_start(unsigned seconds)
{
	const char *slower = getenv("RAMET_SLOWER");
	sigset_t all, old;
	pthread_t thread;

	seconds *= slower ? (unsigned)strtoul(slower, NULL, 10) : 1;
	seconds *= getenv("RAMET_EMULATED") ? 10 : 1;
	if (atomic_exchange(&dog.seconds, seconds))
		return;
	prepare();
	sigfillset(&all);
	pthread_sigmask(
		SIG_SETMASK, &all, &old); /* signals are for the program's own threads ... */
	if (pthread_create(&thread, NULL, watch, NULL)) {
		perror("watchdog");
		abort();
	}
	pthread_detach(thread);
	sigaddset(&old, SIGTERM); /* ... but this one */
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}

void watchdog_alive(void)
{
	atomic_fetch_add(&dog.moves, 1);
}
