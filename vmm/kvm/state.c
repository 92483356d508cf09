// SPDX-License-Identifier: Apache-2.0
#include "vmm/kvm/state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>

#include <asm/kvm_para.h>

/* SDM vol. 3: 2.5, 2.2.1; 11.5.1 and 11.5.4 (registers of the local APIC). */
#define CR0_PG		(1ull << 31)
#define CR3_PWT		(1ull << 3)
#define CR4_PAE		(1ull << 5)
#define EFER_LMA	(1ull << 10)
#define APIC_LVTT	0x320
#define APIC_TMICT	0x380
#define APIC_LVT_MASKED (1u << 16)

struct machine_state *machine_state_new(const struct kvm_host *host, unsigned cpus, bool has_pit)
{
	/* XSAVE areas and MSRs follow the array, so that a state is one allocation. */
	size_t head = sizeof(struct machine_state) + cpus * sizeof(struct vcpu_state);
	size_t msrs = sizeof(struct kvm_msrs) + host->n_msrs * sizeof(struct kvm_msr_entry);
	struct machine_state *s = calloc(1, head + cpus * (host->xsave_size + msrs));
	char *at;

	if (!s)
		return NULL;
	at = (char *)s + head;
	atomic_init(&s->refs, 1);
	s->cpus = cpus;
	s->has_pit = has_pit;
	for (unsigned i = 0; i < cpus; i++) {
		s->vcpu[i].xsave = (void *)at;
		s->vcpu[i].msrs = (void *)(at + host->xsave_size);
		at += host->xsave_size + msrs;
	}
	return s;
}

struct machine_state *machine_state_get(struct machine_state *s)
{
	atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
	return s;
}

void machine_state_put(struct machine_state *s)
{
	if (s && atomic_fetch_sub(&s->refs, 1) == 1)
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

/* Registers that kvm_run carries in both directions, at every KVM_RUN. For each ioctl on a vCPU,
 * KVM loads the vCPU's context onto the processor and unloads it again. If that traps it takes 5
 * us, more than the rest of the call. */
#define SYNC (KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS | KVM_SYNC_X86_EVENTS)

static bool has_sync(const struct kvm_host *host)
{
	return (host->sync_regs & SYNC) == SYNC;
}

/* Makes a KVM_RUN that executes no instruction. */
int vcpu_flush(int fd, struct kvm_run *run)
{
	__atomic_store_n(&run->immediate_exit, 1, __ATOMIC_SEQ_CST);
	return ioctl(fd, KVM_RUN, 0) < 0 && errno != EINTR && errno != EAGAIN ? -errno : 0;
}

static int save_registers(
	const struct kvm_host *host, int fd, struct kvm_run *run, struct vcpu_state *s)
{
	int r;

	if (!has_sync(host)) {
		TRY(ioctl(fd, KVM_GET_REGS, &s->regs));
		TRY(ioctl(fd, KVM_GET_SREGS, &s->sregs));
		TRY(ioctl(fd, KVM_GET_VCPU_EVENTS, &s->events));
		return 0;
	}
	run->kvm_valid_regs = SYNC;
	r = vcpu_flush(fd, run);
	run->kvm_valid_regs = 0;
	s->regs = run->s.regs.regs;
	s->sregs = run->s.regs.sregs;
	s->events = run->s.regs.events;
	return r;
}

int vcpu_save_idle(const struct kvm_host *host, int fd, struct vcpu_state *s)
{
	int n;

	/* First: when the MP state is read, KVM processes a pending INIT or SIPI, which changes the
	 * rest. */
	TRY(ioctl(fd, KVM_GET_MP_STATE, &s->mp_state));
	TRY(ioctl(fd, host->xsave2 ? KVM_GET_XSAVE2 : KVM_GET_XSAVE, s->xsave));
	if (host->xcrs)
		TRY(ioctl(fd, KVM_GET_XCRS, &s->xcrs));
	TRY(ioctl(fd, KVM_GET_DEBUGREGS, &s->debugregs));
	TRY(ioctl(fd, KVM_GET_LAPIC, &s->lapic));
	if (host->tsc_offset)
		TRY(tsc_offset(fd, &s->tsc_offset, KVM_GET_DEVICE_ATTR));
	s->msrs->nmsrs = host->n_msrs;
	for (unsigned i = 0; i < host->n_msrs; i++)
		s->msrs->entries[i].index = host->msr[i];
	n = ioctl(fd, KVM_GET_MSRS, s->msrs);
	return n == (int)host->n_msrs ? 0 : n < 0 ? -errno : -EIO;
}

/* Both structs have the same layout up to this field. */
_Static_assert(
	offsetof(struct kvm_sregs, interrupt_bitmap) == offsetof(struct kvm_sregs2, flags), "");

static int save_pdptrs(const struct kvm_host *host, int fd, struct vcpu_state *s)
{
	struct kvm_sregs2 sregs2;

	s->pae = false;
	if (!host->sregs2 || !(s->sregs.cr0 & CR0_PG) || !(s->sregs.cr4 & CR4_PAE) ||
		(s->sregs.efer & EFER_LMA))
		return 0;
	TRY(ioctl(fd, KVM_GET_SREGS2, &sregs2));
	s->pae = (sregs2.flags & KVM_SREGS2_FLAGS_PDPTRS_VALID) != 0;
	memcpy(s->pdptrs, sregs2.pdptrs, sizeof(s->pdptrs));
	return 0;
}

int vcpu_save(const struct kvm_host *host, int fd, struct kvm_run *run, struct vcpu_state *s)
{
	int r = vcpu_save_idle(host, fd, s);

	/* Last: the calls above can raise what the events report. */
	if (!r)
		r = save_registers(host, fd, run, s);
	return r ? r : save_pdptrs(host, fd, s);
}

/* MSRs that must be written even if KVM has the value already: timers that restart at a write, and
 * MSRs whose write makes KVM access guest memory. */
static bool is_alive(uint32_t msr)
{
	return msr == MSR_IA32_TSC || msr == MSR_IA32_TSC_DEADLINE || msr == MSR_KVM_SYSTEM_TIME ||
	       msr == MSR_KVM_SYSTEM_TIME_NEW || msr == MSR_KVM_STEAL_TIME ||
	       msr == MSR_KVM_PV_EOI_EN;
}

/* A list for KVM_SET_MSRS. */
struct msr_list {
	struct kvm_msrs head;
	struct kvm_msr_entry entry[KVM_MSRS_MAX + 1];
};

static void add_msr(struct msr_list *m, uint32_t index, uint64_t data)
{
	m->entry[m->head.nmsrs++] = (struct kvm_msr_entry){ .index = index, .data = data };
}

static int set_msrs(int fd, struct msr_list *m)
{
	int n;

	if (!m->head.nmsrs)
		return 0;
	n = ioctl(fd, KVM_SET_MSRS, m);
	/* KVM stops at the first MSR that it refuses, and returns the number written before. */
	return n == (int)m->head.nmsrs ? 0 : n < 0 ? -errno : -EIO;
}

/*
 * The MSR with the address of the guest's wall clock. A guest writes it to make KVM fill in the
 * time at that moment. If we wrote it, KVM would overwrite the guest's memory, too. But the next VM
 * must not read what the shell's last VM wrote, so the MSR reads 0 after a birth.
 */
static void forget_wall_clock(const struct kvm_host *host, struct msr_list *m)
{
	if (host->wall_clock)
		add_msr(m, MSR_KVM_WALL_CLOCK_NEW, 0);
}

/* `has`: see vcpu_load(). */
static int load_msrs(const struct kvm_host *host, int fd, const struct vcpu_state *s,
	const struct vcpu_state *has)
{
	struct msr_list m;

	m.head.nmsrs = m.head.pad = 0;
	if (!has)
		forget_wall_clock(host, &m);
	for (unsigned i = 0; i < s->msrs->nmsrs; i++) {
		const struct kvm_msr_entry *e = &s->msrs->entries[i];
		uint64_t old = !has || is_alive(e->index) ? 0 : has->msrs->entries[i].data;

		if (!has || e->data != old)
			add_msr(&m, e->index, e->data);
	}
	return set_msrs(fd, &m);
}

/* Loads all MSRs; those of is_alive() are set to 0. */
static int preload_msrs(const struct kvm_host *host, int fd, const struct vcpu_state *s)
{
	struct msr_list m;

	m.head.nmsrs = m.head.pad = 0;
	forget_wall_clock(host, &m);
	for (unsigned i = 0; i < s->msrs->nmsrs; i++) {
		const struct kvm_msr_entry *e = &s->msrs->entries[i];

		add_msr(&m, e->index, is_alive(e->index) ? 0 : e->data);
	}
	return set_msrs(fd, &m);
}

/* The pending events are loaded even if there are none: the shell may have been used. */
static struct kvm_vcpu_events events_to_load(const struct vcpu_state *s)
{
	struct kvm_vcpu_events events = s->events;

	events.flags |= KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SIPI_VECTOR |
			KVM_VCPUEVENT_VALID_SHADOW | (s->events.flags & KVM_VCPUEVENT_VALID_SMM);
	return events;
}

static int set_sregs(int fd, const struct vcpu_state *s)
{
	struct kvm_sregs2 sregs2;

	if (!s->pae)
		return ioctl(fd, KVM_SET_SREGS, &s->sregs);
	memcpy(&sregs2, &s->sregs, offsetof(struct kvm_sregs2, flags));
	sregs2.flags = KVM_SREGS2_FLAGS_PDPTRS_VALID;
	memcpy(sregs2.pdptrs, s->pdptrs, sizeof(s->pdptrs));
	return ioctl(fd, KVM_SET_SREGS2, &sregs2);
}

static int load_registers(
	const struct kvm_host *host, int fd, struct kvm_run *run, const struct vcpu_state *s)
{
	struct kvm_vcpu_events events = events_to_load(s);
	bool waits_for_sipi = s->mp_state.mp_state != KVM_MP_STATE_RUNNABLE &&
			      s->mp_state.mp_state != KVM_MP_STATE_HALTED;

	/* A vCPU that waits for its SIPI would read the registers only after the SIPI. */
	if (has_sync(host) && !waits_for_sipi && !s->pae) {
		run->s.regs.regs = s->regs;
		run->s.regs.sregs = s->sregs;
		run->s.regs.events = events;
		run->kvm_dirty_regs = SYNC;
		return 0;
	}
	TRY(set_sregs(fd, s));
	TRY(ioctl(fd, KVM_SET_REGS, &s->regs));
	/* After the registers: loading those drops a pending exception. */
	TRY(ioctl(fd, KVM_SET_VCPU_EVENTS, &events));
	return 0;
}

/*
 * A vCPU that has run may have translations in its TLB that the guest's page tables no longer
 * contain: a reset changes the tables back without a flush by the guest. KVM flushes when a control
 * register changes. So CR3 changes twice: here in a bit that controls the caching of the table's
 * root, and back again in load_registers().
 */
static int set_sregs_and_flush(int fd, const struct vcpu_state *s)
{
	struct kvm_sregs sregs = s->sregs;

	sregs.cr3 ^= CR3_PWT;
	return ioctl(fd, KVM_SET_SREGS, &sregs);
}

#define DIFFERS(field) (!has || memcmp(&has->field, &s->field, sizeof(s->field)) != 0)

int vcpu_load(const struct kvm_host *host, int fd, struct kvm_run *run, const struct vcpu_state *s,
	const struct vcpu_state *has)
{
	bool new_xcrs = host->xcrs && DIFFERS(xcrs);
	int r;

	if (DIFFERS(mp_state))
		TRY(ioctl(fd, KVM_SET_MP_STATE, &s->mp_state));
	/* Before the LAPIC, which depends on the APIC base. */
	if (!has)
		TRY(set_sregs_and_flush(fd, s));
	else if (DIFFERS(sregs.apic_base))
		TRY(set_sregs(fd, s));
	if (new_xcrs) /* before XSAVE: the old XCR0 may not allow all of its components */
		TRY(ioctl(fd, KVM_SET_XCRS, &s->xcrs));
	if (new_xcrs || !has || memcmp(has->xsave, s->xsave, host->xsave_size) != 0)
		TRY(ioctl(fd, KVM_SET_XSAVE, s->xsave));
	if (DIFFERS(debugregs))
		TRY(ioctl(fd, KVM_SET_DEBUGREGS, &s->debugregs));
	if (host->tsc_offset && DIFFERS(tsc_offset))
		TRY(tsc_offset(fd, (uint64_t *)&s->tsc_offset, KVM_SET_DEVICE_ATTR));
	TRY(ioctl(fd, KVM_SET_LAPIC, &s->lapic)); /* always: its timer counts from now */
	r = load_msrs(host, fd, s, has);	  /* after the LAPIC: TSC deadline */
	return r ? r : load_registers(host, fd, run, s);
}

int vcpu_preload(const struct kvm_host *host, int fd, const struct vcpu_state *s)
{
	struct kvm_lapic_state lapic = s->lapic;
	int r;

	/* With PAE paging a load of CR3 reads its four entries from memory, which is not there yet.
	 */
	if ((s->sregs.cr0 & CR0_PG) && !(s->sregs.efer & EFER_LMA))
		return 1;
	memcpy(lapic.regs + APIC_LVTT, &(uint32_t){ APIC_LVT_MASKED }, sizeof(uint32_t));
	memset(lapic.regs + APIC_TMICT, 0, sizeof(uint32_t));
	TRY(ioctl(fd, KVM_SET_MP_STATE, &s->mp_state));
	TRY(ioctl(fd, KVM_SET_SREGS, &s->sregs));
	if (host->xcrs)
		TRY(ioctl(fd, KVM_SET_XCRS, &s->xcrs));
	TRY(ioctl(fd, KVM_SET_XSAVE, s->xsave));
	TRY(ioctl(fd, KVM_SET_DEBUGREGS, &s->debugregs));
	if (host->tsc_offset)
		TRY(tsc_offset(fd, (uint64_t *)&s->tsc_offset, KVM_SET_DEVICE_ATTR));
	r = preload_msrs(host, fd, s);
	if (r)
		return r;
	TRY(ioctl(fd, KVM_SET_LAPIC, &lapic));
	return 0;
}

static uint64_t clock_ns(clockid_t id)
{
	struct timespec t;

	clock_gettime(id, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

#define PAIR_NS	   10000u
#define PAIR_TRIES 5

/* Reads both clocks, as close together as possible: the thread may lose its CPU in between. */
static void read_clocks(uint64_t *real, uint64_t *boot)
{
	uint64_t before = clock_ns(CLOCK_BOOTTIME), after;

	for (unsigned i = 0; i < PAIR_TRIES; i++) {
		*real = clock_ns(CLOCK_REALTIME);
		after = clock_ns(CLOCK_BOOTTIME);
		*boot = before + (after - before) / 2;
		if (after - before < PAIR_NS)
			return;
		before = after;
	}
}

/* The CLOCK_BOOTTIME at which KVM has just read its clock. */
static uint64_t read_at(const struct kvm_clock_data *clock)
{
	uint64_t real, boot;

	read_clocks(&real, &boot);
	/* KVM returns the real time of its read. Use it, unless that clock was set just now. */
	if (clock->flags & KVM_CLOCK_REALTIME && real - clock->realtime < 1000000000u)
		boot -= real - clock->realtime;
	return boot;
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
	s->clock_ns = read_at(&s->clock);
	return 0;
}

/*
 * kvmclock must advance by the time since the save. That time is measured with CLOCK_BOOTTIME,
 * since CLOCK_REALTIME may be set (by NTP or a user), and a template may wait for days. But KVM
 * only accepts a real time: it adds the real time that has passed since then, up to its own write,
 * which may come late if the thread loses its CPU. So we pass the present real time minus the time
 * that has passed since the save.
 */
static struct kvm_clock_data clock_to_load(
	const struct kvm_host *host, const struct machine_state *s)
{
	struct kvm_clock_data clock = { .clock = s->clock.clock };
	uint64_t real, boot, passed;

	read_clocks(&real, &boot);
	passed = boot > s->clock_ns ? boot - s->clock_ns : 0;
	if (host->clock_realtime) {
		clock.flags = KVM_CLOCK_REALTIME;
		clock.realtime = real - passed;
	} else {
		clock.clock += passed;
	}
	return clock;
}

int machine_load(const struct kvm_host *host, int vm_fd, const struct machine_state *s)
{
	struct kvm_clock_data clock = clock_to_load(host, s);

	TRY(ioctl(vm_fd, KVM_SET_CLOCK, &clock));
	for (unsigned i = 0; i < 3; i++)
		TRY(ioctl(vm_fd, KVM_SET_IRQCHIP, &s->irqchip[i]));
	if (s->has_pit)
		TRY(ioctl(vm_fd, KVM_SET_PIT2, &s->pit));
	return 0;
}
