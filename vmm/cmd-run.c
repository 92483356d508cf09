/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ramet run: the life of a family's process. Take the name, launch, serve until the last VM has
 * stopped or somebody ends it, give everything back.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/command.h"
#include "vmm/console-relay.h"
#include "vmm/host.h"
#include "vmm/run-options.h"
#include "vmm/sandbox.h"

/* Everything up to the point where the VM runs and can be reached. */
static int start(struct host *host, struct run_options *o)
{
	struct ramet_family *family;
	struct ramet_err err = { "" };
	struct ramet_vm *vm;

	if (host_init(host, o->cfg.name, &err))
		return complain("%s", err.msg);
	/* The name is ours and its socket open. */
	if (!o->no_sandbox && sandbox_enter(&err)) {
		host_close(host);
		return complain("%s", err.msg);
	}
	o->cfg.console = host_console;
	o->cfg.console_arg = host;
	if (ramet_launch(&o->cfg, &family, &vm, &err) || host_start(host, family, vm, &err)) {
		host_close(host);
		return complain("%s", err.msg);
	}
	return EXIT_OK;
}

/* Until no VM lives. The number of a signal that came first, or 0. */
static int serve(struct host *host, int signals)
{
	struct pollfd fds[] = {
		{ .fd = signals, .events = POLLIN },
		{ .fd = host->done, .events = POLLIN },
	};
	struct signalfd_siginfo si;

	while (poll(fds, 2, -1) < 0)
		;
	if (fds[0].revents && read(signals, &si, sizeof(si)) == sizeof(si))
		return (int)si.ssi_signo;
	return 0;
}

/* The foreground's console is a client like any other, connected from within. */
static int attach(struct host *host, struct client *c)
{
	int sv[2];
	json_t *reply;

	strcpy(c->family, host->name);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv))
		return complain("cannot make a socket pair: %s", strerror(errno));
	wire_init(&c->wire, sv[0]);
	if (host_serve(host, sv[1]))
		return complain("cannot start the console");
	reply = client_call(c, json_pack("{s:s, s:s}", "op", "console", "vm", host->name));
	json_decref(reply);
	return reply ? EXIT_OK : EXIT_TROUBLE;
}

/* Prints why, where the user would not know; returns the exit status. */
static int verdict(const struct ramet_stat *st, int sig)
{
	if (st->state == RAMET_FAILED)
		return complain("VM '%s' failed: %s", st->name, st->failure);
	if (sig)
		return 128 + sig;
	return st->exit_status < 0 ? EXIT_OK : st->exit_status;
}

/* The VM has been launched paused, lest it says something, or ends, before anybody listens. */
static int run_foreground(struct host *host, int signals, bool stay_paused)
{
	struct client console = { .wire = { .fd = -1 } };
	struct ramet_stat st;
	enum relay_end end = RELAY_ESCAPED;
	struct ramet_vm *vm = ramet_vm_get(host->booted);
	int sig = 0;

	if (!attach(host, &console) && (stay_paused || !ramet_resume(vm, NULL)))
		end = console_relay(&console, signals, RELAY_KEYS_SIGNAL);
	if (end == RELAY_STOPPED || end == RELAY_WOKEN)
		sig = serve(host, signals);
	ramet_vm_stat_quick(vm, &st);
	ramet_vm_put(vm);
	if (console.wire.fd >= 0)
		client_close(&console);
	return verdict(&st, sig);
}

/* stdin, stdout and stderr of a daemon. */
static void leave_terminal(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	for (int fd = 0; null >= 0 && fd < 3; fd++)
		dup2(null, fd);
	if (null > 2)
		close(null);
}

/*
 * KVM ties a VM to the process that made it, so the process that stays must do the launch. The
 * one the user started waits for it to say that it worked.
 */
static int run_detached(struct host *host, struct run_options *o)
{
	int ready[2], status;
	pid_t pid;
	char ok = 0;

	if (pipe2(ready, O_CLOEXEC))
		return complain("cannot make a pipe: %s", strerror(errno));
	pid = fork();
	if (pid < 0)
		return complain("cannot start a process: %s", strerror(errno));
	if (pid > 0) {
		close(ready[1]);
		if (read(ready[0], &ok, 1) == 1) {
			puts(o->cfg.name);
			return EXIT_OK;
		}
		if (waitpid(pid, &status, 0) == pid && WIFEXITED(status))
			return WEXITSTATUS(status); /* it has said why */
		return complain("the process of family '%s' died while launching it", o->cfg.name);
	}
	setsid();
	status = ending_signals();
	if (start(host, o))
		_exit(EXIT_TROUBLE);
	leave_terminal();
	if (write(ready[1], "", 1) != 1)
		_exit(EXIT_TROUBLE);
	close(ready[1]);
	close(ready[0]);
	serve(host, status);
	host_close(host);
	_exit(EXIT_OK);
}

int cmd_run(int argc, char **argv)
{
	static struct host host;
	struct run_options o;
	bool stay_paused;
	int signals, status;

	run_options_parse(&o, argc, argv);
	raise_fd_limit();
	if (o.detach)
		return run_detached(&host, &o);
	signals = ending_signals();
	stay_paused = o.cfg.paused;
	o.cfg.paused = true;
	status = start(&host, &o);
	if (status)
		return status;
	status = run_foreground(&host, signals, stay_paused);
	host_close(&host);
	return status;
}
