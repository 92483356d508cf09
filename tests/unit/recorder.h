/* SPDX-License-Identifier: Apache-2.0 */
/* A fake VM for device tests: its vmm/devices/port.h records the calls of a device. */
#ifndef TESTS_UNIT_RECORDER_H
#define TESTS_UNIT_RECORDER_H

#include "vmm/devices/device.h"

struct recorder {
	struct port port; /* .ops = &recorder_ops */
	struct identity who;
	bool irq[24];
	unsigned irq_changes, beats, rooms;
	uint32_t counter, phase, report;
	uint64_t report_gpa;
	int exit_status;
	char console[65536];
	size_t console_len;
	unsigned console_calls;
};

extern const struct port_ops recorder_ops;

struct vcpu {
	uint32_t slept;
};

/* One access of the given size at an offset of the device's window. */
void dev_write(struct device *dev, struct vcpu *vcpu, uint64_t addr, uint32_t value, unsigned size);
uint32_t dev_read(struct device *dev, uint64_t addr, unsigned size);

#endif
