/* SPDX-License-Identifier: Apache-2.0 */
/* The paravirtual doorbell of ramet/abi.h. */
#ifndef RAMET_VMM_DEVICES_DOORBELL_H
#define RAMET_VMM_DEVICES_DOORBELL_H

#include "vmm/devices/device.h"

/*
 * Random numbers (RAMET_DB_RESEED). A clone of a guest that promised to take the random bits of
 * each birth must do it within reseed_ms of running (0: whenever it likes). If it does not, the VM
 * has to fail at its next device access, so that nothing of it gets out any more.
 */

/* 0 or -ENOMEM. */
int doorbell_new(struct port *port, unsigned reseed_ms, struct device **out);
/* The guest has promised to reseed in each birth. From any thread. */
bool doorbell_promised(const struct device *dev);
/* The VM runs from now on, and so does the time. loaded() does that, too. */
void doorbell_reseed_start(struct device *dev);
/* The guest has not reseeded in time. On a vCPU's thread. */
bool doorbell_reseed_late(const struct device *dev);

#endif
