/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "tests/unit/recorder.h"

static struct recorder *recorder_of(struct port *port)
{
	return (struct recorder *)port;
}

static void *no_mem(struct port *port, gpa_t at, uint64_t len)
{
	return NULL;
}

static int record_irq(struct port *port, unsigned gsi, bool level)
{
	struct recorder *r = recorder_of(port);

	r->irq_changes += r->irq[gsi] != level;
	r->irq[gsi] = level;
	return 0;
}

static void record_room(struct port *port)
{
	recorder_of(port)->rooms++;
}

static void record_console(struct port *port, const char *buf, size_t len)
{
	struct recorder *r = recorder_of(port);

	if (len > sizeof(r->console) - 1 - r->console_len)
		len = sizeof(r->console) - 1 - r->console_len;
	memcpy(r->console + r->console_len, buf, len);
	r->console_len += len;
	r->console_calls++;
}

static void record_exit(struct port *port, int status)
{
	recorder_of(port)->exit_status = status;
}

static void record_sleep(struct port *port, struct vcpu *vcpu, uint32_t us)
{
	vcpu->slept += us;
}

static void identity(struct port *port, struct identity *out)
{
	*out = recorder_of(port)->who;
}

static void record_heartbeat(struct port *port, uint32_t counter)
{
	recorder_of(port)->beats++;
	recorder_of(port)->counter = counter;
}

static void record_phase(struct port *port, uint32_t phase)
{
	recorder_of(port)->phase = phase;
}

static void record_report(struct port *port, uint32_t code, uint64_t gpa)
{
	recorder_of(port)->report = code;
	recorder_of(port)->report_gpa = gpa;
}

const struct port_ops recorder_ops = {
	.mem = no_mem,
	.irq = record_irq,
	.input_room = record_room,
	.console = record_console,
	.exit = record_exit,
	.sleep = record_sleep,
	.identity = identity,
	.heartbeat = record_heartbeat,
	.phase = record_phase,
	.report = record_report,
};

void dev_write(struct device *dev, struct vcpu *vcpu, uint64_t addr, uint32_t value, unsigned size)
{
	dev->ops->io(dev, vcpu, 0, addr, true, &value, size);
}

uint32_t dev_read(struct device *dev, uint64_t addr, unsigned size)
{
	uint32_t value = 0;

	dev->ops->io(dev, NULL, 0, addr, false, &value, size);
	return value;
}
