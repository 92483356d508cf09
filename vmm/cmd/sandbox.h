/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The process of a family gives up these rights before its guest runs: to start programs and
 * processes, to reach the network and other processes, and to gain privileges. So a guest that
 * breaks out of the monitor can do little. Forking VMs needs none of these rights: clones are
 * threads.
 */
#ifndef RAMET_VMM_CMD_SANDBOX_H
#define RAMET_VMM_CMD_SANDBOX_H

#include "include/ramet/ramet.h"

/* Gives up the rights for ever, for the calling thread and the threads that it starts later. So
 * call it while there is only one thread. 0, or -errno and an error: then no right has been given
 * up. Does nothing under AddressSanitizer. */
int sandbox_enter(struct ramet_err *err);
/*
 * Keeps the memory of guests out of core files and away from the user's other programs: from now on
 * only root may inspect this process. The process of an ordinary user then cannot open all of its
 * own /proc/self, so call this after the launch. Does nothing under AddressSanitizer.
 */
void sandbox_no_core(void);

#endif
