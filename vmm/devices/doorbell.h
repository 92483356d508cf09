/* SPDX-License-Identifier: Apache-2.0 */
/* The paravirtual doorbell of ramet/abi.h. */
#ifndef RAMET_VMM_DEVICES_DOORBELL_H
#define RAMET_VMM_DEVICES_DOORBELL_H

#include "vmm/devices/device.h"

/*
 * Random numbers (RAMET_DB_RESEED). If a guest has promised to reseed, its clone must reseed within
 * reseed_ms of running (0: no limit). Otherwise the VM must fail at its next device access, so that
 * it sends out nothing more.
 */

/* 0 or -ENOMEM. */
int doorbell_new(struct port *port, unsigned reseed_ms, struct device **out);
/* True if the guest has promised to reseed after each birth. Any thread may call it. */
bool doorbell_promised(const struct device *dev);
/* The VM runs from now on: sets the deadline. loaded() does this, too. */
void doorbell_reseed_start(struct device *dev);
/* True if the guest has not reseeded in time. Called on a vCPU's thread. */
bool doorbell_reseed_late(const struct device *dev);

#endif
