/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Devices of a VM. They reach their VM only through port.h.
 *
 * A device belongs to one VM, or to a frozen generation. In a generation `port` is NULL and only
 * clone() and free() are called. Handlers run on a vCPU thread with no lock held; a device locks
 * the state that its vCPUs share. When a fork calls clone(), all vCPUs are stopped, so clone() may
 * read without a lock. If a device has threads, they must be quiet when quiesce() returns.
 */
#ifndef RAMET_VMM_DEVICES_DEVICE_H
#define RAMET_VMM_DEVICES_DEVICE_H

#include "vmm/devices/port.h"

struct device;

struct device_ops {
	const char *name;
	/* One access. size: 1, 2 or 4 (ports), 1 to 8 (MMIO). addr: the offset in the window. A
	 * read fills data. */
	void (*io)(struct device *dev, struct vcpu *vcpu, unsigned win, uint64_t addr, bool write,
		void *data, unsigned size);
	/* quiesce: finish requests under way and stop touching guest memory. unquiesce: continue.
	 * Optional. */
	void (*quiesce)(struct device *dev);
	void (*unquiesce)(struct device *dev);
	/* Copies the state for the VM behind `port` (NULL: for a generation). 0 or -errno. */
	int (*clone)(const struct device *dev, struct port *port, struct device **out);
	/* The VM has got a new KVM VM: irqfds and ioeventfds of the old one are gone. No vCPU runs.
	 * Optional. */
	void (*attach)(struct device *dev);
	/* Called once for a clone, and after a reset, before its state is loaded and its vCPUs run:
	 * the device takes the new identity. 0, or -errno: then the clone must not run, since it
	 * would have another VM's identity. Optional. */
	int (*born)(struct device *dev);
	/* The machine's state has been loaded, and vCPUs may run. From here on an interrupt is not
	 * lost. Called once after born(). Optional. */
	void (*loaded)(struct device *dev);
	void (*free)(struct device *dev);
};

enum device_space { SPACE_PIO, SPACE_MMIO };

#define DEVICE_WINDOWS_MAX 4
struct device_window {
	enum device_space space;
	uint64_t base, len; /* len 0: not decoded at present */
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
/* Clones all devices. 0, or -errno: then *out is unchanged. */
int device_set_clone(const struct device_set *from, struct port *port, struct device_set *out);
void device_set_quiesce(struct device_set *set);
void device_set_unquiesce(struct device_set *set);
/* The VM is in a new shell: devices must set up again what depends on its KVM descriptor. */
void device_set_attach(struct device_set *set);
int device_set_born(struct device_set *set); /* 0, or -errno: then the VM must not run */
void device_set_loaded(struct device_set *set);
/* Passes one access by a vCPU to the device that decodes the address. */
void device_set_io(struct device_set *set, struct vcpu *vcpu, enum device_space space,
	uint64_t addr, bool write, void *data, unsigned size);
/* An access that no device decodes: a read returns all ones, as on a PC's bus. */
void device_no_answer(bool write, void *data, unsigned size);

#endif
