// SPDX-License-Identifier: Apache-2.0
/*
 * ramet run --detach. KVM ties a VM to the process that made it, so the process that stays must do
 * the launch. The process that the user started waits until that one reports that the VM lives.
 */
#include "vmm/cmd/run-detached.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "include/ramet/abi.h"
#include "vmm/base/limits.h"
#include "vmm/cli/command.h"
#include "vmm/cmd/run-start.h"

/* How long to wait for a sign that the VM keeps running. */
#define LIVES_MS 1000
/* How long to wait after the VM is first seen to run: most failures happen in this time. */
#define BEGUN_MS 250

/* ---- the process that stays ---- */

/* Sets stdin, stdout and stderr of a daemon. */
static void leave_terminal(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	for (int fd = 0; null >= 0 && fd < 3; fd++)
		dup2(null, fd);
	if (null > 2)
		close(null);
}

/* Closes inherited descriptors: a daemon must not keep files of the user's shell open. */
static void close_inherited(int but)
{
	if (but > 3)
		close_range(3, (unsigned)but - 1, 0);
	close_range((unsigned)but + 1, ~0u, 0);
}

/* Waits until the guest is ready, or has run for a while. False: the VM has ended. */
static bool lives(struct ramet_vm *vm)
{
	int r = ramet_wait(vm, RAMET_EV_READY, 0, LIVES_MS);

	if (!r)
		r = ramet_wait(vm, RAMET_EV_PHASE, RAMET_PHASE_READY, BEGUN_MS);
	return r != -ESRCH;
}

/* Prints the start of the VM's output, which may show why it ended. */
static void print_console(struct console_reader *reader)
{
	char buf[2048];
	uint64_t lost;
	bool end;
	size_t n = reader ? console_read(reader, buf, sizeof(buf), &lost, &end) : 0;

	if (n) {
		fputs("Its console:\n", stderr);
		fwrite(buf, 1, n, stderr);
		if (buf[n - 1] != '\n')
			fputc('\n', stderr);
	}
}

/* Lets the VM run. 0: it lives, or has ended with status 0. Otherwise an error has been printed. */
static int set_going(struct host *host)
{
	struct ramet_vm *vm = ramet_vm_get(host->booted);
	struct console_log *log = host_console_log(vm);
	struct console_reader *reader = log ? console_reader_open(log) : NULL;
	struct ramet_err err = { "" };
	struct ramet_stat st;
	int status = EXIT_OK;

	if (ramet_resume(vm, &err)) {
		status = complain("%s", err.msg);
	} else if (!lives(vm)) {
		ramet_vm_stat_quick(vm, &st);
		if (st.state == RAMET_FAILED)
			status = complain("VM '%s' failed: %s", st.name, st.failure);
		else if (st.exit_status > 0) {
			complain("VM '%s' ended at once with status %d", st.name, st.exit_status);
			status = st.exit_status;
		}
		if (status)
			print_console(reader);
	}
	if (reader)
		console_reader_close(reader);
	ramet_vm_put(vm);
	return status;
}

/* caller: a pipe to the process that waits. */
static int stay(struct host *host, struct run_options *o, bool stay_paused, int caller)
{
	int signals, status;

	setsid();
	close_inherited(caller);
	status = run_start(host, o, caller, &signals);
	if (status)
		return status;
	status = stay_paused ? EXIT_OK : set_going(host);
	/* The user may want to unmount the current directory. All files are open by now. */
	if (!status && chdir("/"))
		status = complain("cannot go to the root directory: %s", strerror(errno));
	if (!status) {
		leave_terminal();
		/* If the caller has died meanwhile, no user waits for the VM any more. */
		if (write(caller, "", 1) == 1) {
			close(caller);
			run_serve(host, signals);
		}
	}
	host_close(host);
	return status;
}

/* ---- the process that the user started ---- */

/* Waits for the launching process, and passes signals on to it, since it is in a session of its own
 * and does not get them: the first as SIGTERM, the second as SIGKILL. Returns the number of the
 * first signal, or 0: the process is ready, or has ended. */
static int await(pid_t pid, int ready, int signals, char *ok)
{
	struct pollfd fds[] = {
		{ .fd = ready, .events = POLLIN },
		{ .fd = signals, .events = POLLIN },
	};
	int sig = 0;

	for (;;) {
		if (poll(fds, 2, -1) < 0)
			continue;
		if (fds[1].revents) {
			kill(pid, sig ? SIGKILL : SIGTERM);
			sig = ending_signal(signals);
		} else if (fds[0].revents) {
			if (read(ready, ok, 1) == 1 && sig)
				continue; /* the process is ending anyway */
			return sig;
		}
	}
}

static int wait_for_launch(pid_t pid, int ready, int signals, const char *name)
{
	int status = 0, sig;
	char ok = 1;

	sig = await(pid, ready, signals, &ok);
	if (!sig && !ok) {
		puts(name);
		return EXIT_OK;
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (sig)
		return 128 + sig;
	if (WIFEXITED(status))
		return WEXITSTATUS(status); /* that process has printed the reason */
	return complain("the process of family '%s' died while launching it", name);
}

int run_detached(struct host *host, struct run_options *o, bool stay_paused)
{
	int ready[2], signals;
	sigset_t before;
	pid_t pid;

	if (pipe2(ready, O_CLOEXEC))
		return complain("cannot make a pipe: %s", strerror(errno));
	sigprocmask(SIG_BLOCK, NULL, &before);
	signals = ending_signals();
	if (signals < 0)
		return complain(
			"cannot make a signalfd: %s%s", strerror(errno), limit_hint(-errno));
	pid = fork();
	if (pid < 0)
		return complain("cannot start a process: %s", strerror(errno));
	if (pid == 0) {
		/* Until the new process has taken the name, a signal simply kills it. */
		sigprocmask(SIG_SETMASK, &before, NULL);
		return stay(host, o, stay_paused, ready[1]);
	}
	close(ready[1]);
	return wait_for_launch(pid, ready[0], signals, o->cfg.name);
}
