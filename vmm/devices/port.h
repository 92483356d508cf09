/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A device's interface to its VM. The VM gives each device a port, and the device knows nothing
 * else about its VM. Tests have a port of their own (tests/unit/recorder.h).
 *
 * Every call comes from a vCPU's thread, from a thread that holds the VM's `op` lock while no vCPU
 * runs, or from one that brings input and holds its `input_lock`. A call takes no lock of a device.
 */
#ifndef RAMET_VMM_DEVICES_PORT_H
#define RAMET_VMM_DEVICES_PORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "include/ramet/gpa.h"

struct port;
struct vcpu;

/* The identity of the VM in its present birth. */
struct identity {
	uint64_t id;	   /* unique in the family */
	uint64_t births;   /* number of births, including those that it inherited from its parent */
	uint8_t genid[16]; /* random bits of this birth */
};

struct port_ops {
	/*
	 * Devices access guest memory only through this: a pointer to [at, at + len), or NULL if
	 * that is not all RAM in one range. It is valid until the VM stops, is forked or reset, so
	 * a device must not keep it after the handler returns. An access may wait for a fault
	 * thread, so the device must not hold a lock that a fork takes.
	 */
	void *(*mem)(struct port *port, gpa_t at, uint64_t len);
	/* Sets the level of an interrupt line (GSI) of the in-kernel irqchip. 0 or -errno. */
	int (*irq)(struct port *port, unsigned gsi, bool level);
	/* Sends a message-signalled interrupt. 0 or -errno. */
	int (*msi)(struct port *port, uint64_t address, uint32_t data);
	/* Some input could not be taken before: the device may take more now. Optional. */
	void (*input_room)(struct port *port);
	/* Console output, in the order of the calls. */
	void (*console)(struct port *port, const char *buf, size_t len);
	/* Ends the VM with that exit status. The calling vCPU does not run again. */
	void (*exit)(struct port *port, int status);
	/* Sleeps, but returns as soon as this vCPU must stop for a fork, pause or stop. */
	void (*sleep)(struct port *port, struct vcpu *vcpu, uint32_t us);
	void (*identity)(struct port *port, struct identity *out);

	/* Values that a guest writes to the doorbell (ramet/abi.h). */
	void (*heartbeat)(struct port *port, uint32_t counter);
	void (*phase)(struct port *port, uint32_t phase);
	void (*report)(struct port *port, uint32_t code, uint64_t gpa);
};

struct port {
	const struct port_ops *ops;
};

static inline void *port_mem(struct port *port, gpa_t at, uint64_t len)
{
	return port->ops->mem(port, at, len);
}

static inline int port_irq(struct port *port, unsigned gsi, bool level)
{
	return port->ops->irq(port, gsi, level);
}

static inline int port_msi(struct port *port, uint64_t address, uint32_t data)
{
	return port->ops->msi(port, address, data);
}

static inline void port_console(struct port *port, const char *buf, size_t len)
{
	port->ops->console(port, buf, len);
}

static inline void port_input_room(struct port *port)
{
	if (port->ops->input_room)
		port->ops->input_room(port);
}

static inline void port_exit(struct port *port, int status)
{
	port->ops->exit(port, status);
}

#endif
