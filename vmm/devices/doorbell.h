/* SPDX-License-Identifier: Apache-2.0 */
/* The paravirtual doorbell of ramet/abi.h. */
#ifndef RAMET_VMM_DEVICES_DOORBELL_H
#define RAMET_VMM_DEVICES_DOORBELL_H

#include "vmm/devices/device.h"

/* 0 or -ENOMEM. */
int doorbell_new(struct ramet_vm *vm, struct device **out);

#endif
