/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Devices of a VM. What they may use of it is in port.h.
 *
 * A device belongs to one VM (or to a frozen generation, then `port` is NULL and only clone() and
 * free() are called). Handlers run on a vCPU thread without any lock held; a device with state
 * shared between vCPUs locks it itself. At a fork all vCPUs are stopped when clone() is called, so
 * it may read freely; threads of the device's own must be quiet by the time quiesce() returns.
 */
#ifndef RAMET_VMM_DEVICES_DEVICE_H
#define RAMET_VMM_DEVICES_DEVICE_H

#include "vmm/devices/port.h"

struct device;

struct device_ops {
	const char *name;
	/* One access: size is 1, 2, 4 (ports) or 1..8 (MMIO), addr an offset into the window. A
	 * read fills data. */
	void (*io)(struct device *dev, struct vcpu *vcpu, unsigned win, uint64_t addr, bool write,
		void *data, unsigned size);
	/* Stop touching guest memory and finish what is under way / go on. Optional. */
	void (*quiesce)(struct device *dev);
	void (*unquiesce)(struct device *dev);
	/* A copy of the state, for the VM behind `port` (NULL: for a generation). 0 or -errno. */
	int (*clone)(const struct device *dev, struct port *port, struct device **out);
	/* The VM has a new KVM VM (irqfds and ioeventfds are gone with the old one); no vCPU runs.
	 * Optional. */
	void (*attach)(struct device *dev);
	/* Called once on a clone (and after a reset), before its state is loaded and its vCPUs run:
	 * new identity. 0, or -errno: the clone must not run, since it would be taken for another
	 * VM. Optional. */
	int (*born)(struct device *dev);
	/* The machine's state has been loaded, and vCPUs may run: an interrupt raised from here on
	 * is not lost. Called once after born(). Optional. */
	void (*loaded)(struct device *dev);
	void (*free)(struct device *dev);
};

enum device_space { SPACE_PIO, SPACE_MMIO };

#define DEVICE_WINDOWS_MAX 4
struct device_window {
	enum device_space space;
	uint64_t base, len; /* len 0: not decoded now */
};

struct device {
	const struct device_ops *ops;
	struct port *port;
	struct device_window win[DEVICE_WINDOWS_MAX];
};

#define DEVICES_MAX 16

struct device_set {
	struct device *dev[DEVICES_MAX];
	unsigned n;
};

void device_set_free(struct device_set *set);
/* All or nothing: 0, or -errno and *out is as it was. */
int device_set_clone(const struct device_set *from, struct port *port, struct device_set *out);
void device_set_quiesce(struct device_set *set);
void device_set_unquiesce(struct device_set *set);
/* The VM is in a new shell: whatever hangs on its KVM descriptor is to be set up again. */
void device_set_attach(struct device_set *set);
int device_set_born(struct device_set *set); /* 0, or -errno: then the VM must not run */
void device_set_loaded(struct device_set *set);
/* One access by a vCPU, to the device that decodes the address. */
void device_set_io(struct device_set *set, struct vcpu *vcpu, enum device_space space,
	uint64_t addr, bool write, void *data, unsigned size);
/* An access that no device answers: it reads as all ones, as on a PC's bus. */
void device_no_answer(bool write, void *data, unsigned size);

#endif
