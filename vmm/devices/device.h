/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Devices of a VM, and what they may use of it.
 *
 * A device belongs to one VM (or to a frozen generation, then vm is NULL and only clone() and
 * free() are called). Handlers run on a vCPU thread without any lock held; a device with state
 * shared between vCPUs locks it itself. At a fork all vCPUs are stopped when clone() is called, so
 * it may read freely; threads of the device's own must be quiet by the time quiesce() returns.
 */
#ifndef RAMET_VMM_DEVICES_DEVICE_H
#define RAMET_VMM_DEVICES_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ramet_err;
struct ramet_vm;
struct vcpu;
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
	/* A copy of the state, for `vm` (NULL: a generation). 0 or -errno. */
	int (*clone)(const struct device *dev, struct ramet_vm *vm, struct device **out);
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
	struct ramet_vm *vm;
	struct device_window win[DEVICE_WINDOWS_MAX];
};

#define DEVICES_MAX 16

/*
 * The one door to guest memory: a pointer to [gpa, gpa + len), or NULL unless all of it is RAM and
 * in one piece. Valid until the VM stops, is forked or reset: never kept across handler calls.
 * Touching it may wait for the fault thread: hold no lock that the fork path takes.
 */
void *vm_mem(struct ramet_vm *vm, uint64_t gpa, uint64_t len);

/* Level of an interrupt line of the in-kernel irqchip (GSI), and message-signalled interrupts. */
int vm_irq_line(struct ramet_vm *vm, unsigned gsi, bool level);
int vm_msi(struct ramet_vm *vm, uint64_t address, uint32_t data);

/* For the doorbell: facts of this VM and notes about it. */
uint64_t vm_id(const struct ramet_vm *vm);
uint64_t vm_births(const struct ramet_vm *vm);
const uint8_t *vm_genid(const struct ramet_vm *vm); /* 16 random bytes of this birth */
/*
 * Random numbers (RAMET_DB_RESEED). Who is born from a guest that promised to take the bits of each
 * birth owes that. One who has not done it within the configured time (struct ramet_config) after
 * vm_reseed_start() fails with its next device access: nothing of it gets out any more.
 */
void vm_reseed_owed(struct ramet_vm *vm, bool promised);
void vm_reseed_start(struct ramet_vm *vm); /* it runs: the time counts from now on */
void vm_reseed_done(struct ramet_vm *vm);
bool vm_reseed_pending(const struct ramet_vm *vm);
void vm_heartbeat(struct ramet_vm *vm, uint32_t counter);
void vm_phase(struct ramet_vm *vm, uint32_t phase);
void vm_report(struct ramet_vm *vm, uint32_t code, uint64_t gpa);
void vm_exit(struct ramet_vm *vm, int status); /* the calling vCPU does not run again */
void vm_console(struct ramet_vm *vm, const char *buf, size_t len);
/* Sleeps, but wakes as soon as this vCPU is asked to stop for a fork, pause or stop. */
void vcpu_sleep(struct vcpu *vcpu, uint32_t us);

#endif
