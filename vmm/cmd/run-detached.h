/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RAMET_VMM_CMD_RUN_DETACHED_H
#define RAMET_VMM_CMD_RUN_DETACHED_H

#include <stdbool.h>

#include "vmm/cli/run-options.h"
#include "vmm/control/host.h"

/* ramet run --detach. Returns the exit status; in the process that stays, when its family has
 * ended. */
int run_detached(struct host *host, struct run_options *o, bool stay_paused);

#endif
