/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A launch may take long, or never end: it reads files that may be on a server that does not
 * answer. During the launch a thread waits for signals that must end the process.
 */
#ifndef RAMET_VMM_CMD_LAUNCH_WATCH_H
#define RAMET_VMM_CMD_LAUNCH_WATCH_H

#include "vmm/control/host.h"

struct launch_watch {
	struct host *host;
	int signals, caller;
	int over; /* eventfd: the launch has ended */
	pthread_t thread;
};

/* Starts the thread. A signal from `signals` then releases the host's name and ends the process
 * with 128 plus the signal's number. The process also ends if the pipe `caller` has no reader any
 * more; -1: there is no pipe. */
int launch_watch_start(
	struct launch_watch *w, struct host *host, int signals, int caller, struct ramet_err *err);
void launch_watch_stop(struct launch_watch *w);

#endif
