// SPDX-License-Identifier: Apache-2.0
/*
 * ramet run: the life of a family's process. It takes the name, launches the VM, serves clients
 * until the last VM has stopped or a user ends the family, and frees everything.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/cli/command.h"
#include "vmm/cli/console-relay.h"
#include "vmm/cmd/commands.h"
#include "vmm/cmd/run-detached.h"
#include "vmm/cmd/run-start.h"

/* Attaches the terminal: an ordinary client that is connected from within the process. */
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

/* Returns a descriptor that is readable if a or b is readable. It stays open until the process
 * ends. -1: errno. */
static int either(int a, int b)
{
	int fd = epoll_create1(EPOLL_CLOEXEC), err;
	struct epoll_event ev = { .events = EPOLLIN };

	if (fd < 0 ||
		(!epoll_ctl(fd, EPOLL_CTL_ADD, a, &ev) && !epoll_ctl(fd, EPOLL_CTL_ADD, b, &ev)))
		return fd;
	err = errno;
	close(fd);
	errno = err;
	return -1;
}

/* Called when the VM of this terminal has stopped: waits until its clones have stopped, too, or a
 * signal comes. */
static int outlive(struct host *host, int signals)
{
	struct ramet_family_stat fs;

	ramet_family_stat_quick(host->family, &fs);
	if (fs.vms)
		fprintf(stderr,
			"ramet: '%s' has stopped; %llu of its clones go on, until they stop or "
			"Ctrl-C stops them\n",
			host->name, (unsigned long long)fs.vms);
	return run_serve(host, signals);
}

/*
 * Runs from the end of the relay to the end of the family. Returns the signal that ended the VM,
 * its clones or both, or 0. Ctrl-C stops only the VM of this terminal, since other users may need
 * the clones. SIGTERM and SIGHUP end the whole process.
 */
static int wind_up(struct host *host, int signals, enum relay_end end)
{
	int sig = end == RELAY_WOKEN ? ending_signal(signals) : 0, later;

	if (end == RELAY_WOKEN && sig != SIGINT)
		return sig;
	if (end != RELAY_STOPPED)
		ramet_stop(host->booted, NULL);
	later = outlive(host, signals);
	return later ? later : sig;
}

/* Returns the exit status. Prints the reason if the user cannot know it. */
static int verdict(const struct ramet_stat *st, enum relay_end end, int relay_errno, int sig)
{
	if (st->state == RAMET_FAILED)
		return complain("VM '%s' failed: %s", st->name, st->failure);
	if (end == RELAY_NO_OUTPUT)
		return relay_no_output(relay_errno);
	if (sig)
		return 128 + sig;
	return st->exit_status < 0 ? EXIT_OK : st->exit_status;
}

/* The VM has been launched paused, so that it cannot write output or end before the terminal is
 * attached. */
static int run_foreground(struct host *host, int signals, bool stay_paused)
{
	struct client console = { .wire = { .fd = -1 } };
	int wake = either(signals, host->ending), relay_errno, sig, status = EXIT_TROUBLE;
	struct ramet_vm *vm = ramet_vm_get(host->booted);
	struct ramet_err err = { "" };
	struct ramet_stat st;
	enum relay_end end;

	if (wake < 0) {
		complain("cannot make an epoll descriptor: %s", strerror(errno));
	} else if (!attach(host, &console)) {
		if (!stay_paused && ramet_resume(vm, &err)) {
			complain("%s", err.msg);
		} else {
			end = console_relay(&console, wake, RELAY_KEYS_SIGNAL);
			relay_errno = errno;
			/* The session may be waiting for us to take output. */
			shutdown(console.wire.fd, SHUT_RDWR);
			sig = wind_up(host, signals, end);
			ramet_vm_stat_quick(vm, &st);
			status = verdict(&st, end, relay_errno, sig);
		}
	}
	ramet_vm_put(vm);
	if (console.wire.fd >= 0)
		client_close(&console);
	return status;
}

int cmd_run(int argc, char **argv)
{
	static struct host host;
	struct run_options o;
	bool stay_paused;
	int signals, status;

	run_options_parse(&o, argc, argv);
	raise_fd_limit();
	stay_paused = o.cfg.paused;
	if (o.detach)
		return run_detached(&host, &o, stay_paused);
	status = run_start(&host, &o, -1, &signals);
	if (status)
		return status;
	status = run_foreground(&host, signals, stay_paused);
	host_close(&host);
	return status;
}
