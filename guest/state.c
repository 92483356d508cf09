/* SPDX-License-Identifier: Apache-2.0 */
/*
 * state: fills the registers of every vCPU with values of its own, waits for a fork with all of
 * them live, and checks them on both sides: general, x87, SSE, AVX, MXCSR; and through ring 0 debug
 * registers, CR2, model-specific registers and interrupt controllers. Time must not go back.
 *
 * The address of its report is 1 + the index of the wrong register in its group, plus a group's
 * thousand: 1000 general, 2000 XSAVE area (byte), 3000 special (see special[]), 4000 APIC
 * (register), 5000 flags, 6000 TSC.
 *
 * watch=0: no debug register is armed. QEMU 7.2 dies of an armed one under its SVM.
 */
#include "guest/lib/guest.h"
#include "guest/state.h"

#define APIC	    0xfee00000ul
#define FLAG_DF	    0x400u
#define CPUID_XSAVE (1u << 26)
#define XCR0_SSE    3u /* x87, SSE */
#define XCR0_AVX    7u /* and AVX */

#define DR7_QUIET 0xd0400u /* DR0 would watch writes of 4 bytes ... */
#define DR7_ARMED 0x402u   /* ... where nobody writes */

const char *const guest_keys[] = { "watch", NULL };

enum kind { CR2, DR0, DR1, DR2, DR3, DR7, PIC1_MASK, PIC2_MASK, PIT_MODE, MSR };

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
	/* AMD's have 32 bits, and its KVM sets no more (svm.c, sysenter_esp_hi). */
	{ MSR, 0x175, 0x7fffffff, 0 },		    /* SYSENTER_ESP */
	{ MSR, 0x176, 0x7fffffff, 0 },		    /* SYSENTER_EIP */
	{ MSR, 0x277, 0, 0x0007010600070106 },	    /* PAT, permuted */
	{ MSR, 0xc0000081, 0xffffffff00000000, 0 }, /* STAR */
	{ MSR, 0xc0000082, 0x7fffffffffff, 0 },	    /* LSTAR */
	{ MSR, 0xc0000083, 0x7fffffffffff, 0 },	    /* CSTAR */
	{ MSR, 0xc0000084, 0x3f7fd5, 0 },	    /* FMASK */
	{ MSR, 0xc0000100, 0x7fffffffffff, 0 },	    /* FS_BASE */
	{ MSR, 0xc0000101, 0x7fffffffffff, 0 },	    /* GS_BASE */
	{ MSR, 0xc0000102, 0x7fffffffffff, 0 },	    /* KERNEL_GS_BASE */
};
#define SPECIALS (sizeof(special) / sizeof(special[0]))

/* ID, TPR, LDR, DFR, SVR, LVTs (thermal, counter, LINT0, LINT1, error), divider. */
static const uint16_t apic_regs[] = { 0x20, 0x80, 0xd0, 0xe0, 0xf0, 0x330, 0x340, 0x350, 0x360,
	0x370, 0x3e0 };
#define APIC_REGS (sizeof(apic_regs) / sizeof(apic_regs[0]))

static struct {
	struct state s;
	uint64_t special[SPECIALS];
	uint32_t apic[APIC_REGS];
	uint64_t seed;
} cpus[GUEST_CPUS];

static uint32_t verified[GUEST_CPUS]; /* the last life each vCPU found right */

GUEST_RING0 static uint64_t special_read(unsigned i)
{
	uint64_t v = 0;
	uint32_t hi;

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
	case PIT_MODE: /* read back the status, and of that all but the output and the null count */
		__asm__ volatile("movb $0xe8, %%al\n\toutb %%al, $0x43\n\tinb $0x42, %%al"
				 : "+a"(v));
		v &= 0x3f;
		break;
	case MSR:
		__asm__ volatile("rdmsr" : "=a"(v), "=d"(hi) : "c"(special[i].msr));
		v = (uint32_t)v | (uint64_t)hi << 32;
		break;
	}
	return v;
}

GUEST_RING0 static void special_write(unsigned i, uint64_t v)
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
	case MSR:
		__asm__ volatile("wrmsr"
				 :
				 : "a"((uint32_t)v), "d"((uint32_t)(v >> 32)), "c"(special[i].msr));
		break;
	}
}

/* The interrupt controllers and the timer of the PC are one for all vCPUs. */
GUEST_RING0 static bool mine(unsigned cpu, unsigned i)
{
	return cpu == 0 || (special[i].kind != PIC1_MASK && special[i].kind != PIC2_MASK &&
				   special[i].kind != PIT_MODE);
}

enum { SERVICE_WRITE, SERVICE_READ };

GUEST_RING0 void guest_ring0_service(uint64_t what, uint64_t cpu)
{
	for (unsigned i = 0; i < SPECIALS; i++)
		if (what == SERVICE_READ)
			cpus[cpu].special[i] = special_read(i);
		else if (mine(cpu, i))
			special_write(i, cpus[cpu].special[i]);
}

GUEST_RING0 static void cpuid(uint32_t leaf, uint32_t r[4])
{
	__asm__ volatile("cpuid"
			 : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3])
			 : "a"(leaf), "c"(0));
}

/* XSAVE with what of x87, SSE and AVX there is. */
GUEST_RING0 void guest_ring0_init(void)
{
	uint64_t cr4;
	uint32_t r[4];

	cpuid(1, r);
	if (!(r[2] & CPUID_XSAVE))
		return;
	__asm__ volatile("mov %%cr4, %0" : "=r"(cr4));
	__asm__ volatile("mov %0, %%cr4" : : "r"(cr4 | 1 << 18));
	cpuid(0xd, r);
	__asm__ volatile("xsetbv" : : "a"(r[0] & XCR0_AVX), "d"(0), "c"(0));
}

/*
 * What XSAVE saves; 0 where FXSAVE does as much. (QEMU 7.2's emulator does not intercept XSETBV, so
 * a KVM inside it takes back what guest_ring0_init() asked for.)
 */
static uint64_t xcr0(void)
{
	uint32_t r[4], lo, hi;

	cpuid(1, r);
	if (!(r[2] & CPUID_XSAVE))
		return 0;
	__asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
	return (lo & XCR0_SSE) == XCR0_SSE ? lo : 0;
}

static _Noreturn void wrong(
	const char *what, uint64_t group, uint64_t index, uint64_t set, uint64_t found)
{
	print("state: a fork changed ");
	print_hex(what, index);
	print_hex("  it was ", set);
	print_hex("  it is  ", found);
	guest_fail(RAMET_REPORT_STATE, group + 1 + index);
}

/* Random contents: all x87 and vector registers in use, a rounding mode not the usual. */
static void fill_xsave(uint8_t *x, uint64_t features, uint64_t *seed)
{
	uint64_t *word = (uint64_t *)x;

	for (unsigned i = 0; i < STATE_X_SIZE / 8; i++)
		word[i] = 0;
	word[0] = 0x0e7f | 0xffull << 32; /* control: truncate, 53 bits; all eight in use */
	word[3] = 0x0000ffff00007f80;	  /* MXCSR: truncate */
	for (unsigned reg = 0; reg < 8; reg++) {
		word[4 + 2 * reg] = random64(seed) | 1ull << 63;
		word[5 + 2 * reg] = random64(seed) & 0x7fff;
	}
	for (unsigned i = 20; i < 52; i++)
		word[i] = random64(seed);
	word[64] = features;
	for (unsigned i = 72; features & 4 && i < 104; i++)
		word[i] = random64(seed);
}

static void set_all(const struct guest_machine *m, unsigned cpu)
{
	bool armed = arg_number(m, "watch", 1);
	struct state *s = &cpus[cpu].s;
	uint64_t *seed = &cpus[cpu].seed;

	for (unsigned i = 0; i < STATE_GPRS; i++)
		s->set[i] = random64(seed);
	s->xcr0 = xcr0();
	fill_xsave(s->x_set, s->xcr0, seed);
	for (unsigned i = 0; i < SPECIALS; i++) {
		cpus[cpu].special[i] = (random64(seed) & special[i].mask) | special[i].fixed;
		if (special[i].kind == DR7 && armed)
			cpus[cpu].special[i] |= DR7_ARMED;
	}
	service(SERVICE_WRITE, cpu);
	service(SERVICE_READ, cpu);				 /* as this host keeps them */
	*(volatile uint32_t *)(APIC + 0x80) = 0x10 + 0x10 * cpu; /* TPR */
	*(volatile uint32_t *)(APIC + 0xf0) = 0x1f0 + cpu;	 /* SVR */
	*(volatile uint32_t *)(APIC + 0xd0) = (uint32_t)(1u << (24 + cpu)); /* LDR */
	*(volatile uint32_t *)(APIC + 0x3e0) = cpu & 3;
	for (unsigned i = 0; i < APIC_REGS; i++)
		cpus[cpu].apic[i] = *(volatile uint32_t *)(APIC + apic_regs[i]);
}

/* Not so: the last x87 instruction, MXCSR's mask, software's bytes, the XSAVE header. */
static bool x_defined(unsigned i)
{
	return i < 6 || (i >= 24 && i < 28) || (i >= 32 && i < 464) || i >= 576;
}

static void check_all(unsigned cpu)
{
	struct state *s = &cpus[cpu].s;
	uint64_t expected[SPECIALS];
	uint32_t lo, hi;

	__asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi));
	if ((lo | (uint64_t)hi << 32) < s->tsc)
		wrong("the time stamp counter ", 6000, 0, s->tsc, lo | (uint64_t)hi << 32);
	for (unsigned i = 0; i < STATE_GPRS; i++)
		if (s->set[i] != s->found[i])
			wrong("general register ", 1000, i, s->set[i], s->found[i]);
	if (!(s->flags & FLAG_DF))
		wrong("the flags ", 5000, 0, FLAG_DF, s->flags);
	for (unsigned i = 0; i < 832; i++)
		if (x_defined(i) && s->x_set[i] != s->x_found[i])
			wrong("XSAVE area byte ", 2000, i, s->x_set[i], s->x_found[i]);
	for (unsigned i = 0; i < SPECIALS; i++)
		expected[i] = cpus[cpu].special[i];
	service(SERVICE_READ, cpu);
	for (unsigned i = 0; i < SPECIALS; i++)
		if (mine(cpu, i) && expected[i] != cpus[cpu].special[i])
			wrong("special register ", 3000, i, expected[i], cpus[cpu].special[i]);
	for (unsigned i = 0; i < APIC_REGS; i++) {
		uint32_t now = *(volatile uint32_t *)(APIC + apic_regs[i]);

		if (cpus[cpu].apic[i] != now)
			wrong("APIC register ", 4000, apic_regs[i], cpus[cpu].apic[i], now);
	}
}

/* Rings when all vCPUs have found this life's inheritance right. */
static void ring(const struct guest_machine *m, uint32_t life)
{
	for (unsigned i = 0; i < m->cpus; i++)
		if (__atomic_load_n(&verified[i], __ATOMIC_SEQ_CST) != life)
			return;
	db_write(RAMET_DB_HEARTBEAT, life);
	db_write(RAMET_DB_PHASE, RAMET_PHASE_VERIFIED);
}

void guest_main(const struct guest_machine *m, unsigned cpu)
{
	static unsigned set_up;
	uint32_t life = db_read(RAMET_DB_GENERATION);

	cpus[cpu].seed = 1 + cpu;
	for (;;) {
		cpus[cpu].s.life = life;
		set_all(m, cpu);
		if (__atomic_add_fetch(&set_up, 1, __ATOMIC_RELAXED) == m->cpus)
			db_write(RAMET_DB_PHASE, RAMET_PHASE_READY);
		state_hold(&cpus[cpu].s);
		check_all(cpu);
		life = db_read(RAMET_DB_GENERATION);
		__atomic_store_n(&verified[cpu], life, __ATOMIC_SEQ_CST);
		ring(m, life);
	}
}
