/* SPDX-License-Identifier: Apache-2.0 */
/*
 * state: fills the registers of every vCPU with different values, waits for a fork while they hold
 * these values, and checks them in parent and clone: general, x87, SSE, AVX, AVX-512 registers, and
 * through ring 0 debug registers, CR2, model-specific registers and interrupt controllers
 * (state-special.c). Then it fills them again, with values that no other VM has: the next VM in the
 * same shell must not find them. Time must not go back, and kvmclock must agree with the TSC. At
 * its start the guest tries to use what must be hidden from guests.
 *
 * The address of a report is 1 + the index of the wrong register in its group, plus a number for
 * the group: 1000 general, 2000 XSAVE area (byte), 3000 special (see special[]), 4000 APIC
 * (register), 5000 flags, 6000 TSC, 7000 not hidden (see hidden[]), 8000 kvmclock.
 *
 * bare=1: the VM is not forked or reset, and KVM hides nothing: tests the guest alone.
 * watch=0: arms no debug register. QEMU 7.2 crashes if one is armed under its SVM.
 */
#include "guest/lib/guest.h"
#include "guest/state-special.h"
#include "guest/state.h"

#define APIC	    0xfee00000ul
#define FLAG_DF	    0x400u
#define CPUID_XSAVE (1u << 26)
#define XCR0_SSE    3u	  /* x87, SSE */
#define XCR0_AVX    7u	  /* x87, SSE, AVX */
#define XCR0_AVX512 0xe0u /* mask registers, upper halves, upper sixteen */
#define NS_PER_S    1000000000

GUEST_KEYS(state);

/* ID, TPR, LDR, DFR, SVR, LVTs (timer, thermal, counter, LINT0, LINT1, error), divider. */
static const uint16_t apic_regs[] = { 0x20, 0x80, 0xd0, 0xe0, 0xf0, 0x320, 0x330, 0x340, 0x350,
	0x360, 0x370, 0x3e0 };
#define APIC_REGS (sizeof(apic_regs) / sizeof(apic_regs[0]))

static struct {
	struct state s;
	struct pv_time time; /* when the registers were set */
	bool has_time;
	uint32_t apic[APIC_REGS];
	uint64_t seed;
} cpus[GUEST_CPUS];

static bool bare;

static uint32_t verified[GUEST_CPUS]; /* the last generation that each vCPU has checked */

/* Enables XSAVE, with those of x87, SSE, AVX and AVX-512 that the processor has. */
GUEST_RING0 void guest_ring0_init(void)
{
	uint64_t cr4;
	uint32_t r[4];

	state_cpuid(1, 0, r);
	if (!(r[2] & CPUID_XSAVE))
		return;
	__asm__ volatile("mov %%cr4, %0" : "=r"(cr4));
	__asm__ volatile("mov %0, %%cr4" : : "r"(cr4 | 1 << 18));
	state_cpuid(0xd, 0, r);
	if ((r[0] & XCR0_AVX512) != XCR0_AVX512)
		r[0] &= XCR0_AVX;
	__asm__ volatile("xsetbv" : : "a"(r[0] & (XCR0_AVX | XCR0_AVX512)), "d"(0), "c"(0));
}

/*
 * The components that XSAVE saves; 0: use FXSAVE. (QEMU 7.2's emulator does not intercept XSETBV,
 * so a KVM inside it undoes what guest_ring0_init() has set.)
 */
static uint64_t xcr0(void)
{
	uint32_t r[4], lo, hi;

	state_cpuid(1, 0, r);
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

/* The place of a feature beyond SSE in the XSAVE area; an empty range if it is not in use. */
struct x_range {
	unsigned start, end;
};
static struct x_range x_range(uint64_t features, unsigned feature)
{
	uint32_t r[4];

	if (!(features >> feature & 1))
		return (struct x_range){ 0, 0 };
	state_cpuid(0xd, feature, r);
	if (r[1] + r[0] > STATE_X_SIZE)
		return (struct x_range){ 0, 0 };
	return (struct x_range){ r[1], r[1] + r[0] };
}

/* Random contents: all x87 and vector registers in use, and not the default rounding mode. */
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
	for (unsigned f = 2; f < 8; f++) {
		struct x_range range = x_range(features, f);

		for (unsigned i = range.start / 8; i < range.end / 8; i++)
			word[i] = random64(seed);
	}
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
	special_set(cpu, seed, armed);
	*(volatile uint32_t *)(APIC + 0x80) = 0x10 + 0x10 * cpu;	    /* TPR */
	*(volatile uint32_t *)(APIC + 0xf0) = 0x1f0 + cpu;		    /* SVR */
	*(volatile uint32_t *)(APIC + 0xd0) = (uint32_t)(1u << (24 + cpu)); /* LDR */
	*(volatile uint32_t *)(APIC + 0x3e0) = cpu & 3;
	for (unsigned i = 0; i < APIC_REGS; i++)
		cpus[cpu].apic[i] = *(volatile uint32_t *)(APIC + apic_regs[i]);
	cpus[cpu].has_time = special_time(cpu, &cpus[cpu].time);
}

static void check_x(const struct state *s, unsigned start, unsigned end)
{
	for (unsigned i = start; i < end; i++)
		if (s->x_set[i] != s->x_found[i])
			wrong("XSAVE area byte ", 2000, i, s->x_set[i], s->x_found[i]);
}

/* Does not check the last x87 instruction, MXCSR's mask, the bytes for software and the XSAVE
 * header. */
static void check_xsave(const struct state *s)
{
	check_x(s, 0, 6);
	check_x(s, 24, 28);
	check_x(s, 32, 464);
	for (unsigned f = 2; f < 8; f++) {
		struct x_range range = x_range(s->xcr0, f);

		check_x(s, range.start, range.end);
	}
}

/* kvmclock must advance with the TSC, within a second, even if the host's clocks were set. */
static void check_time(unsigned cpu)
{
	const struct pv_time *then = &cpus[cpu].time;
	struct pv_time now;
	uint64_t ticks;
	int64_t passed, more;

	if (!cpus[cpu].has_time)
		return;
	special_time(cpu, &now);
	ticks = now.tsc - then->tsc;
	ticks = now.shift < 0 ? ticks >> -now.shift : ticks << now.shift;
	passed = (int64_t)((unsigned __int128)ticks * now.mul >> 32);
	more = (int64_t)(now.ns - then->ns) - passed;
	if (more > NS_PER_S || more < -NS_PER_S)
		wrong("kvmclock ", 8000, 0, then->ns + (uint64_t)passed, now.ns);
}

static void check_all(unsigned cpu)
{
	struct state *s = &cpus[cpu].s;
	uint64_t set, found;
	unsigned which;
	uint32_t lo, hi;

	__asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi));
	if ((lo | (uint64_t)hi << 32) < s->tsc)
		wrong("the time stamp counter ", 6000, 0, s->tsc, lo | (uint64_t)hi << 32);
	for (unsigned i = 0; i < STATE_GPRS; i++)
		if (s->set[i] != s->found[i])
			wrong("general register ", 1000, i, s->set[i], s->found[i]);
	if (!(s->flags & FLAG_DF))
		wrong("the flags ", 5000, 0, FLAG_DF, s->flags);
	check_xsave(s);
	which = special_check(cpu, bare, &set, &found);
	if (which < special_count())
		wrong("special register ", 3000, which, set, found);
	check_time(cpu);
	for (unsigned i = 0; i < APIC_REGS; i++) {
		uint32_t now = *(volatile uint32_t *)(APIC + apic_regs[i]);

		if (cpus[cpu].apic[i] != now)
			wrong("APIC register ", 4000, apic_regs[i], cpus[cpu].apic[i], now);
	}
}

/* Sends a heartbeat when all vCPUs have checked their registers and filled them again. */
static void ring(const struct guest_machine *m, uint32_t life)
{
	for (unsigned i = 0; i < m->cpus; i++)
		if (__atomic_load_n(&verified[i], __ATOMIC_SEQ_CST) != life)
			return;
	db_write(RAMET_DB_HEARTBEAT, life);
	db_write(RAMET_DB_PHASE, RAMET_PHASE_VERIFIED);
}

static void check_hidden(unsigned cpu)
{
	int exposed = special_exposed(cpu);

	if (exposed >= 0)
		guest_fail(RAMET_REPORT_STATE, 7001 + (unsigned)exposed);
}

void guest_main(const struct guest_machine *m, unsigned cpu)
{
	static unsigned set_up;
	uint32_t life = db_read(RAMET_DB_GENERATION);

	bare = arg_number(m, "bare", 0);
	if (!bare)
		check_hidden(cpu);
	cpus[cpu].seed = 1 + cpu;
	set_all(m, cpu);
	if (cpu == 0 && !bare)
		special_tell_absent(cpu);
	if (__atomic_add_fetch(&set_up, 1, __ATOMIC_RELAXED) == m->cpus)
		db_write(RAMET_DB_PHASE, RAMET_PHASE_READY);
	for (;;) {
		cpus[cpu].s.life = life;
		state_hold(&cpus[cpu].s);
		check_all(cpu);
		life = db_read(RAMET_DB_GENERATION);
		/* Siblings inherit the same seed, so mix in what differs. */
		cpus[cpu].seed += mix64((uint64_t)db_read(RAMET_DB_CLONE_ID) << 32 | life);
		set_all(m, cpu);
		__atomic_store_n(&verified[cpu], life, __ATOMIC_SEQ_CST);
		ring(m, life);
	}
}
