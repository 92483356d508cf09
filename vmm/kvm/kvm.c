// SPDX-License-Identifier: Apache-2.0
#include "vmm/kvm/kvm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <asm/kvm_para.h>

#include "vmm/base/err.h"

#define CPUID_MAX 256

enum reg { EAX, EBX, ECX, EDX };

/*
 * Features that are hidden from guests, because KVM has state for them that cannot be read or
 * written: a clone would not inherit that state, or would find the state of its shell's last VM.
 * docs/state.md has the reason for each. Bits: SDM vol. 2A and APM vol. 3, CPUID;
 * Documentation/virt/kvm/x86/cpuid.rst.
 */
static const struct {
	uint32_t function, index;
	enum reg reg;
	uint32_t bits;
} hidden[] = {
	{ 1, 0, ECX, 1u << 5 | 1u << 6 },		/* VMX, SMX */
	{ 1, 0, ECX, 1u << 2 | 1u << 15 },		/* DTES64, PDCM (PEBS, LBR) */
	{ 1, 0, EDX, 1u << 21 },			/* DS */
	{ 7, 0, EBX, 1u << 2 | 1u << 25 },		/* SGX, processor trace */
	{ 7, 0, ECX, 1u << 7 | 1u << 30 },		/* shadow stacks, SGX_LC */
	{ 7, 0, EDX, 1u << 19 | 1u << 20 },		/* architectural LBR, IBT */
	{ 7, 0, EDX, 1u << 22 | 1u << 24 | 1u << 25 },	/* AMX */
	{ 7, 1, EAX, 1u << 21 },			/* AMX-FP16 */
	{ 7, 1, EDX, 1u << 8 },				/* AMX-COMPLEX */
	{ 0xd, 0, EAX, 1u << 17 | 1u << 18 },		/* AMX's registers */
	{ 0xd, 1, EAX, 1u << 4 },			/* XFD */
	{ 0xd, 1, ECX, 1u << 8 | 1u << 11 | 1u << 12 }, /* processor trace, shadow stacks */
	{ 0x80000001, 0, ECX, 1u << 2 | 1u << 12 },	/* SVM, SKINIT */
	{ 0x80000001, 0, ECX, 1u << 10 },		/* IBS */
	{ KVM_CPUID_FEATURES, 0, EAX, 1u << KVM_FEATURE_CLOCKSOURCE },
	/* A guest that waits for "page ready" during a fork would wait for ever in the clone: the
	 * clone's KVM never fetches that page. */
	{ KVM_CPUID_FEATURES, 0, EAX,
		1u << KVM_FEATURE_ASYNC_PF | 1u << KVM_FEATURE_ASYNC_PF_VMEXIT |
			1u << KVM_FEATURE_ASYNC_PF_INT },
	/* A kick that comes before the vCPU's HLT is a bit in KVM that cannot be read. */
	{ KVM_CPUID_FEATURES, 0, EAX, 1u << KVM_FEATURE_PV_UNHALT },
};

/* Leaves that describe only hidden features: SGX, processor trace, LBR, AMX, SVM, IBS, SEV. */
static const uint32_t hidden_leaves[] = { 0x12, 0x14, 0x1c, 0x1d, 0x1e, 0x8000000a, 0x8000001b,
	0x8000001f };

static void hide(struct kvm_cpuid_entry2 *e)
{
	uint32_t *reg[] = { [EAX] = &e->eax, [EBX] = &e->ebx, [ECX] = &e->ecx, [EDX] = &e->edx };

	for (unsigned i = 0; i < sizeof(hidden) / sizeof(hidden[0]); i++)
		if (e->function == hidden[i].function && e->index == hidden[i].index)
			*reg[hidden[i].reg] &= ~hidden[i].bits;
	for (unsigned i = 0; i < sizeof(hidden_leaves) / sizeof(hidden_leaves[0]); i++)
		if (e->function == hidden_leaves[i])
			e->eax = e->ebx = e->ecx = e->edx = 0;
}

static int check_ext(int fd, long cap)
{
	int r = ioctl(fd, KVM_CHECK_EXTENSION, cap);

	return r < 0 ? 0 : r;
}

static int read_cpuid(struct kvm_host *host)
{
	struct kvm_cpuid2 *c = calloc(1, sizeof(*c) + CPUID_MAX * sizeof(c->entries[0]));

	if (!c)
		return -ENOMEM;
	c->nent = CPUID_MAX;
	if (ioctl(host->fd, KVM_GET_SUPPORTED_CPUID, c) < 0) {
		int e = -errno;

		free(c);
		return e;
	}
	for (unsigned i = 0; i < c->nent; i++)
		hide(&c->entries[i]);
	host->cpuid = c;
	return 0;
}

/*
 * MSRs that KVM has for each vCPU but does not list: MTRRs, the machine-check bank that
 * kvm_setup_vcpu() sets up, and OSVW (AMD's known errata). kvm_probe_msrs() drops those that this
 * KVM does not have.
 */
static const struct {
	uint32_t first, last;
} unlisted[] = {
	{ 0x200, 0x20f },	    /* MTRR_PHYS_BASE0, MTRR_PHYS_MASK0 ... 7 */
	{ 0x250, 0x250 },	    /* MTRR_FIX_64K_00000 */
	{ 0x258, 0x259 },	    /* MTRR_FIX_16K_80000, A0000 */
	{ 0x268, 0x26f },	    /* MTRR_FIX_4K_C0000 ... F8000 */
	{ 0x2ff, 0x2ff },	    /* MTRR_DEF_TYPE */
	{ 0x17a, 0x17b },	    /* MCG_STATUS, MCG_CTL: some KVMs list them */
	{ 0x280, 0x280 },	    /* MC0_CTL2 */
	{ 0x400, 0x403 },	    /* MC0_CTL, STATUS, ADDR, MISC */
	{ 0xc0010140, 0xc0010141 }, /* OSVW_ID_LENGTH, OSVW_STATUS */
};

static int add_msr(struct kvm_host *host, uint32_t msr, struct ramet_err *err)
{
	for (unsigned i = 0; i < host->n_msrs; i++)
		if (host->msr[i] == msr)
			return 0;
	if (host->n_msrs == KVM_MSRS_MAX)
		return err_set(err, -E2BIG,
			"this KVM has more than %u model-specific registers to save, more than "
			"ramet can read with one call; try a newer ramet",
			KVM_MSRS_MAX);
	host->msr[host->n_msrs++] = msr;
	return 0;
}

/*
 * True if a fork carries this MSR of KVM's list like any other. False for those of asynchronous
 * page faults, which guests cannot use: after a write, even of 0, KVM forgets the pages that it
 * fetches for a halted vCPU, but not that the vCPU is halted for them (kvm_pv_enable_async_pf() in
 * arch/x86/kvm/x86.c). So a recycled shell would never run.
 */
static bool is_plain_msr(const struct kvm_host *host, uint32_t msr)
{
	/* Writing a wall-clock MSR makes KVM write guest memory: it is an action, not state. */
	if (msr == MSR_KVM_WALL_CLOCK || msr == MSR_KVM_WALL_CLOCK_NEW)
		return false;
	/* The TSC is carried by its offset: after a write of a value it would jump. */
	if (msr == MSR_IA32_TSC && host->tsc_offset)
		return false;
	if (msr == MSR_KVM_ASYNC_PF_EN || msr == MSR_KVM_ASYNC_PF_INT ||
		msr == MSR_KVM_ASYNC_PF_ACK)
		return false;
	/* KVM denies Hyper-V's MSRs to a guest without Hyper-V's CPUID leaves. */
	return (msr & 0xfffffe00u) != 0x40000000u && msr != MSR_IA32_TSC_DEADLINE;
}

static int read_msr_list(struct kvm_host *host, struct ramet_err *err)
{
	struct {
		struct kvm_msr_list head;
		uint32_t index[512];
	} list = { .head.nmsrs = 512 };
	bool deadline = false;
	int r = 0;

	if (ioctl(host->fd, KVM_GET_MSR_INDEX_LIST, &list) < 0)
		return err_set(
			err, -errno, "cannot ask KVM for its list of MSRs: %s", strerror(errno));
	host->n_msrs = 0;
	for (unsigned i = 0; i < list.head.nmsrs && !r; i++) {
		uint32_t m = list.head.indices[i];

		deadline |= m == MSR_IA32_TSC_DEADLINE;
		if (is_plain_msr(host, m))
			r = add_msr(host, m, err);
	}
	for (unsigned i = 0; i < sizeof(unlisted) / sizeof(unlisted[0]); i++)
		for (uint32_t m = unlisted[i].first; m <= unlisted[i].last && !r; m++)
			r = add_msr(host, m, err);
	/* The deadline is last: it depends on the TSC (MSR or offset) and on the LAPIC's timer. */
	if (deadline && !r)
		r = add_msr(host, MSR_IA32_TSC_DEADLINE, err);
	return r;
}

/* Finds out whether kvm_setup_vm() must deny MSRs. If KVM has no DE_CFG, the value stays 0. */
static void read_amd(struct kvm_host *host)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} one = { .head.nmsrs = 1, .entry.index = MSR_AMD64_DE_CFG };

	host->amd = ioctl(host->fd, KVM_GET_MSRS, &one) == 1 &&
		    check_ext(host->fd, KVM_CAP_X86_MSR_FILTER);
	host->de_cfg = host->amd ? one.entry.data : 0;
}

static const char *device_path(void)
{
	const char *path = getenv("RAMET_KVM_DEVICE");

	return path && *path ? path : "/dev/kvm";
}

static int open_device(struct ramet_err *err)
{
	const char *path = device_path();
	int fd = open(path, O_RDWR | O_CLOEXEC);

	if (fd >= 0)
		return fd;
	if (errno == EACCES || errno == EPERM)
		return err_set(err, -errno,
			"cannot open %s: permission denied; run as root or join the group that "
			"owns it (often 'kvm')",
			path);
	if (errno == ENOENT || errno == ENXIO || errno == ENODEV)
		return err_set(err, -errno,
			"there is no usable %s: load kvm_intel or kvm_amd, turn on virtualization "
			"in the firmware, or use scripts/nested",
			path);
	return err_set(err, -errno, "cannot open %s: %s", path, strerror(errno));
}

static void read_capabilities(struct kvm_host *host)
{
	host->sync_regs = (uint32_t)check_ext(host->fd, KVM_CAP_SYNC_REGS);
	host->xsave_size = (size_t)check_ext(host->fd, KVM_CAP_XSAVE2);
	host->xsave2 = host->xsave_size > sizeof(struct kvm_xsave);
	if (!host->xsave2)
		host->xsave_size = sizeof(struct kvm_xsave);
	host->xcrs = check_ext(host->fd, KVM_CAP_XCRS) > 0;
	host->tsc_offset = check_ext(host->fd, KVM_CAP_VCPU_ATTRIBUTES) > 0;
	host->exception_payload = check_ext(host->fd, KVM_CAP_EXCEPTION_PAYLOAD) > 0;
	host->triple_fault = check_ext(host->fd, KVM_CAP_X86_TRIPLE_FAULT_EVENT) > 0;
	host->sregs2 = check_ext(host->fd, KVM_CAP_SREGS2) > 0;
	host->clock_realtime =
		(check_ext(host->fd, KVM_CAP_ADJUST_CLOCK) & KVM_CLOCK_REALTIME) != 0;
}

/* That it is the KVM we know, and has what we cannot do without. */
static int check_kind(int fd, struct ramet_err *err)
{
	static const struct {
		int cap;
		const char *name;
	} needed[] = {
		{ KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY" },
		{ KVM_CAP_IRQCHIP, "KVM_CAP_IRQCHIP" },
		{ KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT" },
		{ KVM_CAP_XSAVE, "KVM_CAP_XSAVE" },
		{ KVM_CAP_VCPU_EVENTS, "KVM_CAP_VCPU_EVENTS" },
		{ KVM_CAP_DEBUGREGS, "KVM_CAP_DEBUGREGS" },
		{ KVM_CAP_MP_STATE, "KVM_CAP_MP_STATE" },
		{ KVM_CAP_ADJUST_CLOCK, "KVM_CAP_ADJUST_CLOCK" },
		{ KVM_CAP_MCE, "KVM_CAP_MCE" },
		{ KVM_CAP_ENFORCE_PV_FEATURE_CPUID, "KVM_CAP_ENFORCE_PV_FEATURE_CPUID" },
	};
	int version = ioctl(fd, KVM_GET_API_VERSION, 0);

	if (version < 0)
		return err_set(err, -ENOTTY, "%s is not a KVM device", device_path());
	if (version != KVM_API_VERSION)
		return err_set(err, -ENOTSUP,
			"this KVM has API version %d, but ramet needs version %d", version,
			KVM_API_VERSION);
	for (unsigned i = 0; i < sizeof(needed) / sizeof(needed[0]); i++)
		if (!check_ext(fd, needed[i].cap))
			return err_set(err, -ENOTSUP,
				"this KVM lacks %s; Linux 6.8 or later has it", needed[i].name);
	return 0;
}

int kvm_host_open(struct kvm_host *host, struct ramet_err *err)
{
	struct kvm_host h = { .fd = open_device(err) };
	int r;

	if (h.fd < 0)
		return h.fd;
	r = check_kind(h.fd, err);
	if (r)
		goto fail;
	r = ioctl(h.fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (r < (int)sizeof(struct kvm_run)) {
		r = err_set(err, r < 0 ? -errno : -ENOTSUP,
			"this KVM does not report the size of a vCPU's shared area: %s",
			r < 0 ? strerror(errno) : "the answer is too small");
		goto fail;
	}
	h.run_size = (size_t)r;
	read_capabilities(&h);
	r = read_cpuid(&h);
	if (r) {
		err_set(err, r, "cannot ask KVM for its CPUID: %s", strerror(-r));
		goto fail;
	}
	r = read_msr_list(&h, err);
	if (r)
		goto fail;
	read_amd(&h);
	*host = h;
	return 0;
fail:
	kvm_host_close(&h);
	return r;
}

void kvm_host_close(struct kvm_host *host)
{
	if (host->fd >= 0)
		close(host->fd);
	free(host->cpuid);
	host->fd = -1;
	host->cpuid = NULL;
}

static int enable_cap(int fd, uint32_t cap)
{
	struct kvm_enable_cap c = { .cap = cap, .args = { 1 } };

	return ioctl(fd, KVM_ENABLE_CAP, &c) < 0 ? -errno : 0;
}

int kvm_setup_vm(const struct kvm_host *host, int vm_fd)
{
	/* A guest's write to VM_CR cannot be undone (SVMDIS cannot be cleared); nor can a write to
	 * DE_CFG after a vCPU has run. Only kvm_amd has them. A clear bit denies an MSR. */
	static uint8_t none[8]; /* KVM reads bitmaps in whole longs */
	struct kvm_msr_filter filter = {
		.flags = KVM_MSR_FILTER_DEFAULT_ALLOW,
		.ranges = {
			{ KVM_MSR_FILTER_WRITE, 1, MSR_VM_CR, none },
			{ KVM_MSR_FILTER_WRITE, 1, MSR_AMD64_DE_CFG, none },
		},
	};
	int r = 0;

	/* Without these two, KVM reports a pending exception or a triple fault wrongly, or not at
	 * all. */
	if (host->exception_payload)
		r = enable_cap(vm_fd, KVM_CAP_EXCEPTION_PAYLOAD);
	if (!r && host->triple_fault)
		r = enable_cap(vm_fd, KVM_CAP_X86_TRIPLE_FAULT_EVENT);
	if (!r && host->amd && ioctl(vm_fd, KVM_X86_SET_MSR_FILTER, &filter) < 0)
		r = -errno;
	return r;
}

static int set_cpuid(const struct kvm_host *host, int vcpu_fd, unsigned index, unsigned cpus)
{
	size_t size = sizeof(*host->cpuid) + host->cpuid->nent * sizeof(host->cpuid->entries[0]);
	struct kvm_cpuid2 *c = malloc(size);
	int r = 0;

	if (!c)
		return -ENOMEM;
	memcpy(c, host->cpuid, size);
	for (unsigned i = 0; i < c->nent; i++) {
		struct kvm_cpuid_entry2 *e = &c->entries[i];

		if (e->function == 1) {
			/* SDM vol. 2A, CPUID leaf 1: EBX[31:24] initial APIC id, EBX[23:16] logical
			 * CPUs; ECX[24] TSC deadline (KVM leaves it to us), ECX[31] hypervisor. */
			e->ebx = (e->ebx & 0x0000ffffu) | index << 24 | cpus << 16;
			e->ecx |= 1u << 24 | 1u << 31;
			if (cpus > 1)
				e->edx |= 1u << 28;
		} else if (e->function == 0xb || e->function == 0x1f) {
			/* One package of `cpus` cores; x2APIC id in EDX. */
			unsigned shift = 0;

			while ((1u << shift) < cpus)
				shift++;
			e->edx = index;
			if (e->index == 0) {
				e->eax = 0;
				e->ebx = 1;
				e->ecx = 1u << 8;
			} else if (e->index == 1) {
				e->eax = shift;
				e->ebx = cpus;
				e->ecx = 2u << 8 | 1;
			}
		}
	}
	if (ioctl(vcpu_fd, KVM_SET_CPUID2, c) < 0)
		r = -errno;
	free(c);
	return r;
}

/* Sets DE_CFG to the value that a guest would write, since guests may not write it. */
static int set_de_cfg(const struct kvm_host *host, int vcpu_fd)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} one = { .head.nmsrs = 1, .entry = { .index = MSR_AMD64_DE_CFG, .data = host->de_cfg } };

	return ioctl(vcpu_fd, KVM_SET_MSRS, &one) < 0 ? -errno : 0;
}

int kvm_setup_vcpu(const struct kvm_host *host, int vcpu_fd, unsigned index, unsigned cpus)
{
	/* One bank of machine checks, the minimum, instead of the default of 32: so a fork carries
	 * four MSRs, not 128. */
	uint64_t mcg_cap = 1;
	int r = set_cpuid(host, vcpu_fd, index, cpus);

	/* Deny the features that CPUID hides: by default KVM only does not show them. */
	if (!r)
		r = enable_cap(vcpu_fd, KVM_CAP_ENFORCE_PV_FEATURE_CPUID);
	if (!r && ioctl(vcpu_fd, KVM_X86_SETUP_MCE, &mcg_cap) < 0)
		r = -errno;
	if (!r && host->de_cfg)
		r = set_de_cfg(host, vcpu_fd);
	return r;
}

int kvm_probe_msrs(struct kvm_host *host, int vcpu_fd)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} one = { .head.nmsrs = 1 };
	unsigned kept = 0;

	for (unsigned i = 0; i < host->n_msrs; i++) {
		one.entry.index = host->msr[i];
		/* KVM lists all MSRs that it supports; this vCPU may lack the CPUID bit for one. */
		if (ioctl(vcpu_fd, KVM_GET_MSRS, &one) != 1)
			continue;
		if (ioctl(vcpu_fd, KVM_SET_MSRS, &one) != 1)
			continue;
		host->msr[kept++] = host->msr[i];
	}
	host->n_msrs = kept;
	one.entry = (struct kvm_msr_entry){ .index = MSR_KVM_WALL_CLOCK_NEW };
	host->wall_clock = ioctl(vcpu_fd, KVM_SET_MSRS, &one) == 1;
	return kept ? 0 : -EIO;
}
