// SPDX-License-Identifier: Apache-2.0
#include "vmm/cmd/run-start.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

#include "vmm/base/heap.h"
#include "vmm/base/limits.h"
#include "vmm/base/priority.h"
#include "vmm/cli/client.h"
#include "vmm/cli/command.h"
#include "vmm/cmd/launch-watch.h"
#include "vmm/cmd/sandbox.h"
#include "vmm/control/serve.h"

/* The number of clients at once for which stacks are ready, however busy the guests are. With 8 MiB
 * each, the C library keeps no more than 5. */
#define CLIENTS_AT_ONCE 4u

static int no_name(const char *name, int ret, const struct ramet_err *err)
{
	char why[320];

	if (ret == -EADDRINUSE && client_kept(name, why, sizeof(why)))
		return complain(
			"the name '%s' is taken: its process has stayed so that you can see what "
			"went wrong (%s); 'ramet stop --all %s' frees the name",
			name, why, name);
	return complain("%s", err->msg);
}

int run_start(struct host *host, struct run_options *o, int caller, int *signals)
{
	struct launch_watch watch;
	struct ramet_family *family;
	struct ramet_err err = { "" };
	struct ramet_vm *vm;
	int ret;

	heap_keep();
	stacks_keep(CLIENTS_AT_ONCE);
	/* Paused, so that no output is lost before the console is attached. */
	o->cfg.paused = true;
	ret = host_init(host, o->cfg.name, control_session, &err);
	if (ret)
		return no_name(o->cfg.name, ret, &err);
	host_hooks(host, &o->cfg);
	host->keep = caller >= 0; /* in the foreground, the terminal shows errors at once */
	/* The process has the name, and its socket is open. From here on no signal kills it. */
	*signals = ending_signals();
	if (*signals < 0) {
		complain("cannot make a signalfd: %s%s", strerror(errno), limit_hint(-errno));
		host_close(host);
		return EXIT_TROUBLE;
	}
	if ((!o->no_sandbox && sandbox_enter(&err)) ||
		launch_watch_start(&watch, host, *signals, caller, &err)) {
		host_close(host);
		return complain("%s", err.msg);
	}
	if (ramet_launch(&o->cfg, &family, &vm, &err) || host_start(host, family, vm, &err)) {
		launch_watch_stop(&watch);
		host_close(host);
		return complain("%s", err.msg);
	}
	launch_watch_stop(&watch);
	if (!o->no_sandbox)
		sandbox_no_core();
	return EXIT_OK;
}

int run_serve(struct host *host, int signals)
{
	struct pollfd fds[] = {
		{ .fd = signals, .events = POLLIN },
		{ .fd = host->done, .events = POLLIN },
	};

	/* The family's guests must not starve this thread, which ends the process. */
	hurry_for_good(HURRY_PRIORITY);
	while (poll(fds, 2, -1) < 0)
		;
	return ending_signal(signals);
}
