/* SPDX-License-Identifier: Apache-2.0 */
/* Functions for both ways to run a family: in the foreground (run.c) and detached (run-detached.c).
 * All print their errors on stderr. */
#ifndef RAMET_VMM_CMD_RUN_START_H
#define RAMET_VMM_CMD_RUN_START_H

#include "vmm/cli/run-options.h"
#include "vmm/control/host.h"

/*
 * Launches the VM, paused, and makes it reachable for clients. From then on SIGINT, SIGTERM and
 * SIGHUP come through *signals. During the launch such a signal ends the process. The process also
 * ends if the pipe `caller` has no reader any more (-1: no pipe). 0, or the exit status.
 */
int run_start(struct host *host, struct run_options *o, int caller, int *signals);
/* Serves until no VM lives, and returns 0, or until a signal comes, and returns its number. */
int run_serve(struct host *host, int signals);

#endif
