/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/lib/guest.h"

#define COM1		 0x3f8
#define APIC		 0xfee00000ul
#define APIC_SVR	 0x0f0
#define APIC_LVT_TIMER	 0x320
#define APIC_TIMER_COUNT 0x380
#define APIC_TIMER_DIV	 0x3e0
#define APIC_PERIODIC	 0x20000u
#define APIC_DIV_16	 3u
#define APIC_HZ		 1000000000u /* KVM's default APIC bus clock, arch/x86/kvm/lapic.h */

extern char image_end[];

_Alignas(64) struct guest_tick guest_ticks[GUEST_CPUS];
_Alignas(16) char guest_stacks[GUEST_CPUS][1 << GUEST_STACK_SHIFT];

_Noreturn void guest_trap(uint32_t vector, uint64_t rip);
void *memset(void *dst, int c, size_t n);
void *memcpy(void *dst, const void *src, size_t n);

/* The compiler may generate calls of memset() and memcpy(). */
void *memset(void *dst, int c, size_t n)
{
	void *d = dst;

	__asm__ volatile("rep stosb" : "+D"(d), "+c"(n) : "a"(c) : "memory");
	return dst;
}

void *memcpy(void *dst, const void *src, size_t n)
{
	void *d = dst;

	__asm__ volatile("rep movsb" : "+D"(d), "+S"(src), "+c"(n) : : "memory");
	return dst;
}

void db_write(uint16_t reg, uint32_t value)
{
	__asm__ volatile("outl %0, %1"
			 :
			 : "a"(value), "d"((uint16_t)(RAMET_DOORBELL + reg))
			 : "memory");
}

uint32_t db_read(uint16_t reg)
{
	uint32_t v;

	__asm__ volatile("inl %1, %0" : "=a"(v) : "d"((uint16_t)(RAMET_DOORBELL + reg)) : "memory");
	return v;
}

void guest_report(uint32_t code, uint64_t address)
{
	db_write(RAMET_DB_REPORT_LO, (uint32_t)address);
	db_write(RAMET_DB_REPORT_HI, (uint32_t)(address >> 32));
	db_write(RAMET_DB_REPORT, code);
}

_Noreturn void guest_exit(int status)
{
	for (;;)
		db_write(RAMET_DB_EXIT, (uint32_t)status);
}

_Noreturn void guest_fail(uint32_t code, uint64_t address)
{
	guest_report(code, address);
	guest_exit(RAMET_EXIT_FAILED);
}

/* Called by the stub, in ring 0. */
_Noreturn void guest_trap(uint32_t vector, uint64_t rip)
{
	guest_report(RAMET_REPORT_TRAP, rip);
	guest_exit((int)(RAMET_EXIT_TRAP + vector));
}

void guest_sleep(uint64_t us)
{
	while (us) {
		uint32_t step = us < RAMET_SLEEP_MAX ? (uint32_t)us : RAMET_SLEEP_MAX;

		db_write(RAMET_DB_SLEEP, step);
		us -= step;
	}
}

_Noreturn void guest_park(void)
{
	for (;;)
		db_write(RAMET_DB_SLEEP, RAMET_SLEEP_MAX);
}

void print(const char *s)
{
	for (; *s; s++)
		__asm__ volatile("outb %0, %1" : : "a"(*s), "d"((uint16_t)COM1));
}

void print_hex(const char *what, uint64_t value)
{
	char digits[] = "0000000000000000\n";

	for (unsigned i = 16; i--; value >>= 4)
		digits[i] = "0123456789abcdef"[value & 15];
	print(what);
	print(digits);
}

static void apic_write(unsigned reg, uint32_t value)
{
	*(volatile uint32_t *)(APIC + reg) = value;
}

void tick_start(unsigned hz)
{
	apic_write(APIC_SVR, 0x1ff);
	apic_write(APIC_TIMER_DIV, APIC_DIV_16);
	apic_write(APIC_LVT_TIMER, APIC_PERIODIC | GUEST_TICK_VECTOR);
	apic_write(APIC_TIMER_COUNT, APIC_HZ / 16 / hz);
}

/* RAM range r without the part below the end of the image. */
static struct guest_range free_range(const struct guest_machine *m, unsigned r)
{
	uint64_t start = m->ram[r].gpa, end = start + m->ram[r].len, low = (uint64_t)image_end;

	if (start < low)
		start = low;
	return (struct guest_range){ start, end > start ? end - start : 0 };
}

uint64_t free_pages(const struct guest_machine *m)
{
	uint64_t n = 0;

	for (unsigned r = 0; r < m->n_ram; r++)
		n += free_range(m, r).len / GUEST_PAGE;
	return n;
}

uint64_t *free_page(const struct guest_machine *m, uint64_t i)
{
	for (unsigned r = 0; r < m->n_ram; r++) {
		struct guest_range range = free_range(m, r);

		if (i < range.len / GUEST_PAGE)
			return (uint64_t *)(range.gpa + i * GUEST_PAGE);
		i -= range.len / GUEST_PAGE;
	}
	guest_fail(RAMET_REPORT_TRAP, 0);
}
