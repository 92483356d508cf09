/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The registers of a `state` guest that only ring 0 can reach. KVM may interpret ring 0, so the
 * code there is simple: it only goes through a table.
 */
#include "guest/state-special.h"

#define DR7_QUIET 0xd0400u /* DR0 is set to watch writes of 4 bytes, but not enabled */
#define DR7_ARMED 0x402u   /* enables DR0, at an address that is never written */

#define LVT_TIMER	 0x320
#define LVT_TSC_DEADLINE (0x40000u | 0x10000u) /* masked */
#define FAR_TICKS	 5000000000000ull      /* half an hour of a fast TSC */

#define EFER	  0xc0000080u
#define EFER_SVME (1ull << 12)
#define CR4_VMXE  (1ull << 13)

enum kind {
	CR2,
	DR0,
	DR1,
	DR2,
	DR3,
	DR7,
	PIC1_MASK,
	PIC2_MASK,
	PIT_MODE,
	MSR,	  /* if the host has it */
	MSR_KEPT, /* not written */
	/* The address of memory that KVM shares with this vCPU; `fixed`: the offset in struct
	 * shared. */
	MSR_POINTER,
	DEADLINE,
	WALL_CLOCK, /* not carried: reads 0 after a birth */
};

/* The memory that paravirtual MSRs point to. */
static struct shared {
	struct {
		uint32_t version, pad;
		uint64_t tsc, ns;
		uint32_t mul;
		int8_t shift;
		uint8_t flags, pad2[2];
	} clock __attribute__((aligned(64)));
	uint8_t steal[64] __attribute__((aligned(64)));
	uint32_t eoi __attribute__((aligned(64)));
} shared[GUEST_CPUS];

#define KVMCLOCK 0x4b564d01u

static const struct {
	enum kind kind;
	uint32_t msr;
	uint64_t mask, fixed; /* value = random & mask | fixed */
} special[] = {
	{ CR2, 0, 0xffffffff, 0 }, { DR0, 0, 0x3ffffff8, 0x80000000 },
	{ DR1, 0, 0x3ffffff8, 0x80000000 }, { DR2, 0, 0x3ffffff8, 0x80000000 },
	{ DR3, 0, 0x3ffffff8, 0x80000000 }, { DR7, 0, 0, DR7_QUIET }, { PIC1_MASK, 0, 0xff, 0 },
	{ PIC2_MASK, 0, 0xff, 0 },
	{ PIT_MODE, 0, 0, 0x36 },  /* counter 2: both bytes, square wave (all ones without a PIT) */
	{ MSR, 0x174, 0xfffc, 4 }, /* SYSENTER_CS */
	/* On AMD the next two have 32 bits, and kvm_amd sets no more (svm.c, sysenter_esp_hi). */
	{ MSR, 0x175, 0x7fffffff, 0 },		    /* SYSENTER_ESP */
	{ MSR, 0x176, 0x7fffffff, 0 },		    /* SYSENTER_EIP */
	{ MSR, 0x277, 0, 0x0007010600070106 },	    /* PAT, permuted */
	{ MSR, EFER, 0x800, 0x501 },		    /* no-execute */
	{ MSR, 0xc0000081, 0xffffffff00000000, 0 }, /* STAR */
	{ MSR, 0xc0000082, 0x7fffffffffff, 0 },	    /* LSTAR */
	{ MSR, 0xc0000083, 0x7fffffffffff, 0 },	    /* CSTAR */
	{ MSR, 0xc0000084, 0x3f7fd5, 0 },	    /* FMASK */
	{ MSR, 0xc0000100, 0x7fffffffffff, 0 },	    /* FS_BASE */
	{ MSR, 0xc0000101, 0x7fffffffffff, 0 },	    /* GS_BASE */
	{ MSR, 0xc0000102, 0x7fffffffffff, 0 },	    /* KERNEL_GS_BASE */
	{ MSR, 0xc0000103, 0xffffffff, 0 },	    /* TSC_AUX */
	{ MSR_KEPT, 0x1b, 0, 0 },		    /* APIC_BASE */
	{ MSR, 0x3b, 0xffffff, 0 },		    /* TSC_ADJUST */
	{ MSR, 0x48, 1, 0 },			    /* SPEC_CTRL */
	{ MSR, 0x1a0, 8, 0x1801 },		    /* MISC_ENABLE: a thermal monitor */
	{ MSR, 0x1d9, 1, 0 },			    /* DEBUGCTL: last branch records */
	{ MSR, 0x1fc, 0xffff, 0 },		    /* POWER_CTL */
	/* MTRRs: bases and masks; memory types (4 or 5 for each of eight ranges). */
	{ MSR, 0x200, 0x3ffff000, 6 }, { MSR, 0x201, 0x3ffff800, 0 }, { MSR, 0x202, 0x3ffff000, 6 },
	{ MSR, 0x203, 0x3ffff800, 0 }, { MSR, 0x204, 0x3ffff000, 6 }, { MSR, 0x205, 0x3ffff800, 0 },
	{ MSR, 0x206, 0x3ffff000, 6 }, { MSR, 0x207, 0x3ffff800, 0 }, { MSR, 0x208, 0x3ffff000, 6 },
	{ MSR, 0x209, 0x3ffff800, 0 }, { MSR, 0x20a, 0x3ffff000, 6 }, { MSR, 0x20b, 0x3ffff800, 0 },
	{ MSR, 0x20c, 0x3ffff000, 6 }, { MSR, 0x20d, 0x3ffff800, 0 }, { MSR, 0x20e, 0x3ffff000, 6 },
	{ MSR, 0x20f, 0x3ffff800, 0 }, { MSR, 0x250, 0x0101010101010101, 0x0404040404040404 },
	{ MSR, 0x258, 0x0101010101010101, 0x0404040404040404 },
	{ MSR, 0x259, 0x0101010101010101, 0x0404040404040404 },
	{ MSR, 0x268, 0x0101010101010101, 0x0404040404040404 },
	{ MSR, 0x269, 0x0101010101010101, 0x0404040404040404 },
	{ MSR, 0x26a, 0x0101010101010101, 0x0404040404040404 },
	{ MSR, 0x26b, 0x0101010101010101, 0x0404040404040404 },
	{ MSR, 0x26c, 0x0101010101010101, 0x0404040404040404 },
	{ MSR, 0x26d, 0x0101010101010101, 0x0404040404040404 },
	{ MSR, 0x26e, 0x0101010101010101, 0x0404040404040404 },
	{ MSR, 0x26f, 0x0101010101010101, 0x0404040404040404 },
	{ MSR, 0x2ff, 0xc00, 6 }, /* MTRR_DEF_TYPE */
	/* Machine checks. A bit in AMD's HWCR allows writes to the status. Banks 1 and 31 must be
	 * absent. */
	{ MSR, 0xc0010015, 0, 1 << 18 },       /* HWCR */
	{ MSR_KEPT, 0x179, 0, 0 },	       /* MCG_CAP */
	{ MSR, 0x17a, 7, 0 },		       /* MCG_STATUS */
	{ MSR, 0x400, 0x401, ~0x401ull },      /* MC0_CTL */
	{ MSR, 0x401, 0x7fffffffffffffff, 0 }, /* MC0_STATUS */
	{ MSR, 0x402, ~0ull, 0 },	       /* MC0_ADDR */
	{ MSR, 0x403, ~0ull, 0 },	       /* MC0_MISC */
	{ MSR, 0x406, ~0ull, 0 },	       /* MC1_ADDR */
	{ MSR, 0x47e, ~0ull, 0 },	       /* MC31_ADDR */
	{ MSR, 0xc0010004, 0xffffffff, 0 },    /* AMD's first counter, stopped */
	{ MSR, 0xc1, 0x7fffffff, 0 },	       /* Intel's first counter, stopped */
	{ MSR, 0xc0010117, 0xfffff000, 0 },    /* VM_HSAVE_PA */
	{ MSR, 0xc0010140, 0xff, 0 },	       /* OSVW_ID_LENGTH */
	{ MSR, 0xc0010141, ~0ull, 0 },	       /* OSVW_STATUS */
	{ MSR, 0x4b564d05, 1, 0 },	       /* KVM_POLL_CONTROL */
	{ MSR_POINTER, KVMCLOCK, 0, offsetof(struct shared, clock) | 1 },
	{ MSR_POINTER, 0x4b564d03, 0, offsetof(struct shared, steal) | 1 },
	{ MSR_POINTER, 0x4b564d04, 0, offsetof(struct shared, eoi) | 1 },
	{ DEADLINE, 0x6e0, 0xffffff, 0 },
	{ WALL_CLOCK, 0x4b564d00, 0x7ffffffff000, 1ull << 47 }, /* an address without memory */
};
#define SPECIALS (sizeof(special) / sizeof(special[0]))

static struct {
	uint64_t set[SPECIALS], found[SPECIALS];
	bool absent[SPECIALS];
} cpus[GUEST_CPUS];

/* A write to each of these in ring 0 must fault or have no effect: ramet could not carry the state
 * over a fork. */
static const struct {
	uint32_t msr;
	uint64_t flip;
	const char *name;
} hidden[] = {
	{ EFER, EFER_SVME, "EFER.SVME" },
	{ 0xc0010114, 0x10, "VM_CR" },
	{ 0xc0011029, 2, "DE_CFG" },
	{ 0x12, 0x1001, "the first kvmclock" },
	{ 0x4b564d02, 0x100001, "asynchronous page faults" },
	{ 0x4b564d06, 0x40, "their vector" },
	{ 0x40000000, 0x5ec2e7, "Hyper-V's guest id" },
	{ 0x48c, 1, "VMX" },
	{ 0x8c, 0x5ec2e7, "SGX's key" },
	{ 0x345, 1, "PERF_CAPABILITIES" },
	{ 0x1c4, 1 << 18, "XFD" },
	{ 0x6a0, 1, "U_CET" },
	{ 0x570, 1 << 13, "processor trace" },
	{ 0x600, 0x1000, "DS_AREA" },
	{ 0x14ce, 1, "architectural LBR" },
};
#define HIDDEN (sizeof(hidden) / sizeof(hidden[0]))

static struct {
	uint64_t before[HIDDEN], after[HIDDEN], cr4_before, cr4_after;
} exposed[GUEST_CPUS];

GUEST_RING0 static uint64_t special_read(unsigned i)
{
	uint64_t v = 0;

	switch (special[i].kind) {
	case CR2:
		__asm__ volatile("mov %%cr2, %0" : "=r"(v));
		break;
	case DR0:
		__asm__ volatile("mov %%dr0, %0" : "=r"(v));
		break;
	case DR1:
		__asm__ volatile("mov %%dr1, %0" : "=r"(v));
		break;
	case DR2:
		__asm__ volatile("mov %%dr2, %0" : "=r"(v));
		break;
	case DR3:
		__asm__ volatile("mov %%dr3, %0" : "=r"(v));
		break;
	case DR7:
		__asm__ volatile("mov %%dr7, %0" : "=r"(v));
		break;
	case PIC1_MASK:
		__asm__ volatile("inb $0x21, %b0" : "+a"(v));
		break;
	case PIC2_MASK:
		__asm__ volatile("inb $0xa1, %b0" : "+a"(v));
		break;
	case PIT_MODE: /* read back the status, without the output and null-count bits */
		__asm__ volatile("movb $0xe8, %%al\n\toutb %%al, $0x43\n\tinb $0x42, %%al"
				 : "+a"(v));
		v &= 0x3f;
		break;
	default:
		if (state_rdmsr(special[i].msr, &v))
			return 0;
	}
	return v;
}

/* False: the write faulted. */
GUEST_RING0 static bool special_write(unsigned i, uint64_t v)
{
	switch (special[i].kind) {
	case CR2:
		__asm__ volatile("mov %0, %%cr2" : : "r"(v));
		break;
	case DR0:
		__asm__ volatile("mov %0, %%dr0" : : "r"(v));
		break;
	case DR1:
		__asm__ volatile("mov %0, %%dr1" : : "r"(v));
		break;
	case DR2:
		__asm__ volatile("mov %0, %%dr2" : : "r"(v));
		break;
	case DR3:
		__asm__ volatile("mov %0, %%dr3" : : "r"(v));
		break;
	case DR7:
		__asm__ volatile("mov %0, %%dr7" : : "r"(v));
		break;
	case PIC1_MASK:
		__asm__ volatile("outb %b0, $0x21" : : "a"(v));
		break;
	case PIC2_MASK:
		__asm__ volatile("outb %b0, $0xa1" : : "a"(v));
		break;
	case PIT_MODE:
		__asm__ volatile("outb %b0, $0x43" : : "a"(v | 0x80));
		break;
	case MSR_KEPT:
		break;
	default:
		return !state_wrmsr(special[i].msr, v);
	}
	return true;
}

/* All vCPUs share the PICs, the PIT and the wall clock: only vCPU 0 sets and checks those. */
GUEST_RING0 static bool mine(unsigned cpu, unsigned i)
{
	return cpu == 0 || (special[i].kind != PIC1_MASK && special[i].kind != PIC2_MASK &&
				   special[i].kind != PIT_MODE && special[i].kind != WALL_CLOCK);
}

enum { SERVICE_WRITE, SERVICE_READ, SERVICE_EXPOSED };

GUEST_RING0 static void try_hidden(unsigned cpu)
{
	uint64_t cr4;

	for (unsigned i = 0; i < HIDDEN; i++) {
		uint64_t *before = &exposed[cpu].before[i], *after = &exposed[cpu].after[i];

		if (state_rdmsr(hidden[i].msr, before))
			*before = 0;
		if (!state_wrmsr(hidden[i].msr, *before ^ hidden[i].flip) &&
			!state_rdmsr(hidden[i].msr, after))
			continue;
		*after = *before;
	}
	__asm__ volatile("mov %%cr4, %0" : "=r"(cr4));
	exposed[cpu].cr4_before = cr4;
	state_wrcr4(cr4 | CR4_VMXE);
	__asm__ volatile("mov %%cr4, %0" : "=r"(cr4));
	exposed[cpu].cr4_after = cr4;
}

GUEST_RING0 void guest_ring0_service(uint64_t what, uint64_t cpu)
{
	if (what == SERVICE_EXPOSED) {
		try_hidden((unsigned)cpu);
		return;
	}
	for (unsigned i = 0; i < SPECIALS; i++)
		if (what == SERVICE_READ)
			cpus[cpu].found[i] = special_read(i);
		else if (mine((unsigned)cpu, i) && !special_write(i, cpus[cpu].set[i]))
			cpus[cpu].absent[i] = true;
}

void special_tell_absent(unsigned cpu)
{
	for (unsigned i = 0; i < SPECIALS; i++)
		if (cpus[cpu].absent[i])
			print_hex("state: not here: MSR ", special[i].msr);
}

static uint64_t value_to_set(unsigned cpu, unsigned i, uint64_t *seed, bool armed)
{
	uint64_t v = (random64(seed) & special[i].mask) | special[i].fixed;

	switch (special[i].kind) {
	case DR7:
		return armed ? v | DR7_ARMED : v;
	case MSR_POINTER:
		return v + (uint64_t)&shared[cpu];
	case DEADLINE:
		return v + __builtin_ia32_rdtsc() + FAR_TICKS;
	default:
		return v;
	}
}

void special_set(unsigned cpu, uint64_t *seed, bool armed)
{
	*(volatile uint32_t *)(0xfee00000ul + LVT_TIMER) = LVT_TSC_DEADLINE;
	for (unsigned i = 0; i < SPECIALS; i++)
		cpus[cpu].set[i] = value_to_set(cpu, i, seed, armed);
	service(SERVICE_WRITE, cpu);
	service(SERVICE_READ, cpu);
	for (unsigned i = 0; i < SPECIALS; i++)
		cpus[cpu].set[i] = cpus[cpu].found[i]; /* the host may not store all bits */
}

unsigned special_check(unsigned cpu, bool bare, uint64_t *set, uint64_t *found)
{
	service(SERVICE_READ, cpu);
	for (unsigned i = 0; i < SPECIALS; i++) {
		*set = special[i].kind == WALL_CLOCK && !bare ? 0 : cpus[cpu].set[i];
		*found = cpus[cpu].found[i];
		if (mine(cpu, i) && !cpus[cpu].absent[i] && *set != *found)
			return i;
	}
	return SPECIALS;
}

unsigned special_count(void)
{
	return SPECIALS;
}

static bool told_by_cpuid(void)
{
	uint32_t r[4];

	state_cpuid(1, 0, r);
	if (r[2] & 1u << 5) /* VMX */
		return true;
	/* KVM's features: the first kvmclock, asynchronous page faults, kicks of spinlocks. */
	state_cpuid(0x40000001, 0, r);
	if (r[0] & (1u << 0 | 1u << 4 | 1u << 7 | 1u << 10 | 1u << 14))
		return true;
	state_cpuid(0x80000000, 0, r);
	if (r[0] < 0x8000000a)
		return false;
	state_cpuid(0x80000001, 0, r);
	if (r[2] & 1u << 2) /* SVM */
		return true;
	state_cpuid(0x8000000a, 0, r);
	return r[0] | r[1] | r[2] | r[3];
}

int special_exposed(unsigned cpu)
{
	service(SERVICE_EXPOSED, cpu);
	for (unsigned i = 0; i < HIDDEN; i++)
		if (exposed[cpu].before[i] != exposed[cpu].after[i]) {
			print("state: not hidden: ");
			print(hidden[i].name);
			print("\n");
			return (int)i;
		}
	if (exposed[cpu].cr4_before != exposed[cpu].cr4_after)
		return (int)HIDDEN;
	return told_by_cpuid() ? (int)HIDDEN + 1 : -1;
}

bool special_time(unsigned cpu, struct pv_time *t)
{
	volatile struct shared *s = &shared[cpu];
	uint32_t version;

	for (unsigned i = 0; i < SPECIALS; i++)
		if (special[i].msr == KVMCLOCK && cpus[cpu].absent[i])
			return false;
	do {
		uint64_t ticks;

		version = s->clock.version;
		t->mul = s->clock.mul;
		t->shift = s->clock.shift;
		t->tsc = __builtin_ia32_rdtsc();
		ticks = t->tsc - s->clock.tsc;
		ticks = t->shift < 0 ? ticks >> -t->shift : ticks << t->shift;
		t->ns = s->clock.ns + (uint64_t)((unsigned __int128)ticks * t->mul >> 32);
	} while (version & 1 || version != s->clock.version);
	return t->mul;
}
