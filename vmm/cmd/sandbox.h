/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the process of a family gives up before its guest runs: starting programs and processes,
 * reaching the network and other processes, gaining privileges. A guest that breaks out of the
 * monitor finds little to use. Forking VMs needs none of it: clones are threads.
 */
#ifndef RAMET_VMM_CMD_SANDBOX_H
#define RAMET_VMM_CMD_SANDBOX_H

#include "include/ramet/ramet.h"

/* For good, for the calling thread and those it will start: call it while there is only one. 0, or
 * -errno with a line about it; then nothing has been given up.
 * Does nothing under AddressSanitizer. */
int sandbox_enter(struct ramet_err *err);
/*
 * What guests have in memory stays out of core files, and out of reach of the user's other
 * programs: from now on only root may look into this process. An ordinary user's process cannot
 * open all of its own /proc/self any more, so call it after the launch. Does nothing under
 * AddressSanitizer.
 */
void sandbox_no_core(void);

#endif
