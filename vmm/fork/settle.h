/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RAMET_VMM_FORK_SETTLE_H
#define RAMET_VMM_FORK_SETTLE_H

#include "vmm/fork/generation.h"

/* Resolves all spans, or gives them back to the heir if no other VM needs them; then drops base and
 * overlay. Only for the settler. 0: done. 1: try again later, since the heir still takes spans back
 * (not returned in a hurry). -errno: a span could not be resolved for lack of memory; try again
 * later. */
int generation_settle(struct generation *g, bool hurry);

#endif
