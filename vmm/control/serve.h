/* SPDX-License-Identifier: Apache-2.0 */
/* The family's end of the control protocol. */
#ifndef RAMET_VMM_CONTROL_SERVE_H
#define RAMET_VMM_CONTROL_SERVE_H

#include "vmm/control/host.h"

serve_fn control_session; /* for host_init() */

#endif
