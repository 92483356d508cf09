/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RAMET_VMM_FORK_SETTLE_H
#define RAMET_VMM_FORK_SETTLE_H

#include "vmm/fork/generation.h"

/* Resolves all spans, or gives them back to the heir if nobody else needs them, then lets go of
 * base and overlay. Worker only. 1: unless in a hurry, look again later, since the heir still takes
 * spans back. -errno: some span could not be resolved for want of memory; try again later. */
int generation_settle(struct generation *g, bool hurry);

#endif
