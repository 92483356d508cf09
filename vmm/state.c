// SPDX-License-Identifier: Apache-2.0
#include "vmm/state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

struct machine_state *machine_state_new(const struct kvm_host *host, unsigned cpus, bool has_pit)
{
	/* XSAVE areas behind the array, so that a state is one allocation. */
	size_t head = sizeof(struct machine_state) + cpus * sizeof(struct vcpu_state);
	struct machine_state *s = calloc(1, head + cpus * host->xsave_size);

	if (!s)
		return NULL;
	s->cpus = cpus;
	s->has_pit = has_pit;
	for (unsigned i = 0; i < cpus; i++)
		s->vcpu[i].xsave = (void *)((char *)s + head + i * host->xsave_size);
	return s;
}

void machine_state_free(struct machine_state *s)
{
	free(s);
}

static int tsc_offset(int fd, uint64_t *value, unsigned long request)
{
	struct kvm_device_attr attr = {
		.group = KVM_VCPU_TSC_CTRL,
		.attr = KVM_VCPU_TSC_OFFSET,
		.addr = (uintptr_t)value,
	};

	return ioctl(fd, request, &attr);
}

#define TRY(call)                      \
	do {                           \
		if ((call) < 0)        \
			return -errno; \
	} while (0)

int vcpu_save(const struct kvm_host *host, int fd, struct vcpu_state *s)
{
	int n;

	/* First: reading the MP state takes in a pending INIT or SIPI and so changes the rest. */
	TRY(ioctl(fd, KVM_GET_MP_STATE, &s->mp_state));
	TRY(ioctl(fd, KVM_GET_REGS, &s->regs));
	TRY(ioctl(fd, KVM_GET_SREGS, &s->sregs));
	TRY(ioctl(fd, host->xsave2 ? KVM_GET_XSAVE2 : KVM_GET_XSAVE, s->xsave));
	if (host->xcrs)
		TRY(ioctl(fd, KVM_GET_XCRS, &s->xcrs));
	TRY(ioctl(fd, KVM_GET_DEBUGREGS, &s->debugregs));
	TRY(ioctl(fd, KVM_GET_LAPIC, &s->lapic));
	if (host->tsc_offset)
		TRY(tsc_offset(fd, &s->tsc_offset, KVM_GET_DEVICE_ATTR));
	s->msrs.head.nmsrs = host->n_msrs;
	for (unsigned i = 0; i < host->n_msrs; i++)
		s->msrs.entry[i].index = host->msr[i];
	n = ioctl(fd, KVM_GET_MSRS, &s->msrs);
	if (n != (int)host->n_msrs)
		return n < 0 ? -errno : -EIO;
	/* Last: the calls above can raise what it reports. */
	TRY(ioctl(fd, KVM_GET_VCPU_EVENTS, &s->events));
	return 0;
}

int vcpu_load(const struct kvm_host *host, int fd, const struct vcpu_state *s)
{
	struct kvm_vcpu_events events = s->events;
	int n;

	/* Load what was saved as pending even where it is empty: the shell may have been used. */
	events.flags |= KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SIPI_VECTOR |
			KVM_VCPUEVENT_VALID_SHADOW | (s->events.flags & KVM_VCPUEVENT_VALID_SMM);
	TRY(ioctl(fd, KVM_SET_MP_STATE, &s->mp_state));
	TRY(ioctl(fd, KVM_SET_SREGS, &s->sregs));
	if (host->xcrs) /* before XSAVE, which it may forbid */
		TRY(ioctl(fd, KVM_SET_XCRS, &s->xcrs));
	TRY(ioctl(fd, KVM_SET_XSAVE, s->xsave));
	TRY(ioctl(fd, KVM_SET_DEBUGREGS, &s->debugregs));
	if (host->tsc_offset)
		TRY(tsc_offset(fd, (uint64_t *)&s->tsc_offset, KVM_SET_DEVICE_ATTR));
	TRY(ioctl(fd, KVM_SET_LAPIC, &s->lapic)); /* after SREGS: needs the APIC base */
	n = ioctl(fd, KVM_SET_MSRS, &s->msrs);	  /* after the LAPIC: TSC deadline */
	if (n != (int)s->msrs.head.nmsrs)
		return n < 0 ? -errno : -EIO;
	TRY(ioctl(fd, KVM_SET_REGS, &s->regs));
	TRY(ioctl(fd, KVM_SET_VCPU_EVENTS,
		&events)); /* after REGS, which drops a pending exception */
	return 0;
}

int machine_save(const struct kvm_host *host, int vm_fd, struct machine_state *s)
{
	for (unsigned i = 0; i < 3; i++) {
		s->irqchip[i].chip_id = i;
		TRY(ioctl(vm_fd, KVM_GET_IRQCHIP, &s->irqchip[i]));
	}
	if (s->has_pit)
		TRY(ioctl(vm_fd, KVM_GET_PIT2, &s->pit));
	TRY(ioctl(vm_fd, KVM_GET_CLOCK, &s->clock));
	return 0;
}

int machine_load(const struct kvm_host *host, int vm_fd, const struct machine_state *s)
{
	struct kvm_clock_data clock = { .clock = s->clock.clock };

	/* kvmclock goes on as if nothing had happened: KVM adds the real time since the save. */
	if (host->clock_realtime && (s->clock.flags & KVM_CLOCK_REALTIME)) {
		clock.flags = KVM_CLOCK_REALTIME;
		clock.realtime = s->clock.realtime;
	}
	TRY(ioctl(vm_fd, KVM_SET_CLOCK, &clock));
	for (unsigned i = 0; i < 3; i++)
		TRY(ioctl(vm_fd, KVM_SET_IRQCHIP, &s->irqchip[i]));
	if (s->has_pit)
		TRY(ioctl(vm_fd, KVM_SET_PIT2, &s->pit));
	return 0;
}
