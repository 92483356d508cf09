/* SPDX-License-Identifier: Apache-2.0 */
/* What the two ways to run a family share: in the foreground (run.c), detached
 * (run-detached.c). All say on stderr what went wrong. */
#ifndef RAMET_VMM_CMD_RUN_START_H
#define RAMET_VMM_CMD_RUN_START_H

#include "vmm/cli/run-options.h"
#include "vmm/control/host.h"

/*
 * Everything up to the point where the VM, paused, can be reached; SIGINT, SIGTERM and SIGHUP come
 * by *signals from then on. While it lasts such a signal ends the process, and so does the end of
 * the process that has the other end of the pipe `caller` (or -1). 0, or the exit status.
 */
int run_start(struct host *host, struct run_options *o, int caller, int *signals);
/* Until no VM lives. The number of a signal that came first, or 0. */
int run_serve(struct host *host, int signals);

#endif
