/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/cmd/launch-watch.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/lock.h"
#include "vmm/cli/command.h"
#include "vmm/control/rundir.h"

static void *watch(void *arg)
{
	struct launch_watch *w = arg;
	struct pollfd fds[] = {
		{ .fd = w->over, .events = POLLIN },
		{ .fd = w->signals, .events = POLLIN },
		{ .fd = w->caller, .events = 0 },
	};
	int sig;

	while (poll(fds, 3, -1) < 0)
		;
	if (fds[0].revents)
		return NULL;
	sig = ending_signal(w->signals);
	/* Wait for nothing: the launching thread may hold any lock and hang in any call. The kernel
	 * frees what the process has. */
	rundir_release(w->host->rundir, w->host->name);
	complain("'%s' was not launched: interrupted", w->host->name);
	_exit(128 + (sig ? sig : SIGHUP));
}

int launch_watch_start(
	struct launch_watch *w, struct host *host, int signals, int caller, struct ramet_err *err)
{
	int ret;

	*w = (struct launch_watch){ .host = host, .signals = signals, .caller = caller };
	w->over = eventfd(0, EFD_CLOEXEC);
	if (w->over < 0)
		return err_set(err, -errno, "cannot make an eventfd: %s", strerror(errno));
	ret = -pthread_create(&w->thread, NULL, watch, w);
	if (ret) {
		close(w->over);
		return err_set(err, ret, "cannot start a thread: %s", strerror(-ret));
	}
	return 0;
}

void launch_watch_stop(struct launch_watch *w)
{
	eventfd_write(w->over, 1);
	lock_may_wait_for(WAIT_END);
	pthread_join(w->thread, NULL);
	close(w->over);
}
