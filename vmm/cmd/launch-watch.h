/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A launch may take long, or never end: it opens and reads files that may be on a server that does
 * not answer. Meanwhile a thread watches for signals that are to end the process.
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

/* Until it is stopped, a signal from `signals` gives the host's name back and ends the process with
 * 128 and its number. So does the end of all readers of the pipe `caller`, unless that is -1. */
int launch_watch_start(
	struct launch_watch *w, struct host *host, int signals, int caller, struct ramet_err *err);
void launch_watch_stop(struct launch_watch *w);

#endif
