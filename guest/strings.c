/* SPDX-License-Identifier: Apache-2.0 */
/*
 * strings: executes string instructions to and from devices, with values in all registers, and
 * checks each byte and each register. KVM handles hundreds of elements at once, or exits in the
 * middle of an instruction. A fork, a reset or a pause may come at any of these points.
 *
 * A string instruction also sends the heartbeats, one per element, with values counted from 1. So
 * in the VM that booted, the host must have counted as many heartbeats as the last value.
 *
 * The address of a report about registers is 1 + the register's index (guest/strings.h), 100 for
 * the flags, or 1000 + the byte of the FXSAVE area.
 */
#include "guest/lib/guest.h"
#include "guest/strings.h"

#define HOLE	  0xfef00000ul /* no device is here; the span is mapped for the local APIC */
#define BUF	  4096u
#define FILLER	  0x5a
#define COM1	  0x3f8
#define COM1_FCR  (COM1 + 2)
#define COM1_MCR  (COM1 + 4)
#define COM1_SCR  (COM1 + 7) /* scratch register: stores a byte */
#define MCR_LOOP  0x10
#define FIFO	  64u
#define FLAG_DF	  0x400u
#define FLAGS	  0x3202u /* IOPL 3, interrupts */
#define BEATS_MAX 50u

GUEST_KEYS(strings);

static struct strings s;
static uint8_t buf[BUF] __attribute__((aligned(64)));
static uint64_t seed;
static uint32_t beats;

static void outb(uint16_t port, uint8_t v)
{
	__asm__ volatile("outb %0, %1" : : "a"(v), "d"(port));
}

static uint8_t inb(uint16_t port)
{
	uint8_t v;

	__asm__ volatile("inb %1, %0" : "=a"(v) : "d"(port));
	return v;
}

static _Noreturn void wrong(
	const char *what, uint32_t report, uint64_t where, uint64_t want, uint64_t found)
{
	outb(COM1_MCR, 0);
	print("strings: wrong ");
	print_hex(what, where);
	print_hex("  it should be ", want);
	print_hex("  it is        ", found);
	guest_fail(report, where);
}

/* Random values for all registers, also x87 and SSE. */
static void fill(void)
{
	uint64_t *word = (uint64_t *)s.fx_set;

	for (unsigned i = 0; i < STRINGS_GPRS; i++)
		s.set[i] = random64(&seed);
	for (unsigned i = 0; i < STRINGS_FX_SIZE / 8; i++)
		word[i] = i >= 20 && i < 52 ? random64(&seed) : 0;
	word[0] = 0x0e7f | 0xffull << 32; /* truncate, 53 bits; all eight registers in use */
	word[3] = 0x0000ffff00007f80;	  /* MXCSR: truncate */
	for (unsigned reg = 0; reg < 8; reg++) {
		word[4 + 2 * reg] = random64(&seed) | 1ull << 63;
		word[5 + 2 * reg] = random64(&seed) & 0x7fff;
	}
}

/* Executes n elements and checks all registers. `step`: the bytes by which an element advances RSI
 * and RDI; 0 if the instruction does not use the register. */
static void check(const uint64_t step[2], uint64_t n)
{
	uint64_t want[STRINGS_GPRS], flags = s.flags;

	for (unsigned i = 0; i < STRINGS_GPRS; i++)
		want[i] = s.set[i];
	want[RCX] = 0;
	want[RSI] += (flags & FLAG_DF ? -step[0] : step[0]) * n;
	want[RDI] += (flags & FLAG_DF ? -step[1] : step[1]) * n;
	strings_do(&s);
	for (unsigned i = 0; i < STRINGS_GPRS; i++)
		if (s.found[i] != want[i])
			wrong("register ", RAMET_REPORT_STATE, 1 + i, want[i], s.found[i]);
	if ((s.flags ^ flags) & FLAG_DF)
		wrong("flags ", RAMET_REPORT_STATE, 100, flags, s.flags);
	for (unsigned i = 24; i < 416; i++)
		if ((i < 28 || i >= 32) && s.fx_set[i] != s.fx_found[i])
			wrong("FXSAVE byte ", RAMET_REPORT_STATE, 1000 + i, s.fx_set[i],
				s.fx_found[i]);
}

static void check_buf(unsigned from, unsigned n, uint8_t inside)
{
	for (unsigned i = 0; i < BUF; i++) {
		uint8_t want = i - from < n ? inside : FILLER;

		if (buf[i] != want)
			wrong("byte at ", RAMET_REPORT_MISMATCH, (uint64_t)&buf[i], want, buf[i]);
	}
}

/* Moves n elements of `size` bytes from or to an address without a device, upward or downward. */
static void hole(bool from, unsigned size, unsigned n)
{
	bool down = random64(&seed) & 1;
	unsigned bytes = n * size, at = (unsigned)(random64(&seed) % (BUF - bytes));
	uint64_t mem = (uint64_t)buf + at, mmio = HOLE + 8 * (random64(&seed) % 64);
	const uint64_t step[2] = { size, size };

	fill();
	for (unsigned i = 0; i < BUF; i++)
		buf[i] = FILLER;
	if (down) { /* begin with the last element */
		mem += bytes - size;
		mmio += bytes - size;
	}
	s.code = size == 1 ? strings_movsb : strings_movsl;
	s.flags = FLAGS | (down ? FLAG_DF : 0);
	s.set[RCX] = n;
	s.set[RSI] = from ? mmio : mem;
	s.set[RDI] = from ? mem : mmio;
	check(step, n);
	check_buf(at, from ? bytes : 0, 0xff);
}

static void port(void (*code)(void), uint16_t to, unsigned size, bool in, unsigned n, void *mem)
{
	const uint64_t step[2] = { in ? 0 : size, in ? size : 0 };

	fill();
	s.code = code;
	s.flags = FLAGS;
	s.set[RCX] = n;
	s.set[RDX] = to;
	s.set[in ? RDI : RSI] = (uint64_t)mem;
	check(step, n);
}

/* Uses the scratch register, which keeps the last byte written. */
static void scratch(void)
{
	unsigned n = 1 + (unsigned)(random64(&seed) % BUF);
	uint8_t last;

	for (unsigned i = 0; i < n; i++)
		buf[i] = (uint8_t)random64(&seed);
	last = buf[n - 1];
	port(strings_outsb, COM1_SCR, 1, false, n, buf);
	if (inb(COM1_SCR) != last)
		wrong("last byte of ", RAMET_REPORT_MISMATCH, n, last, inb(COM1_SCR));
	for (unsigned i = 0; i < BUF; i++)
		buf[i] = FILLER;
	port(strings_insb, COM1_SCR, 1, true, n, buf);
	for (unsigned i = 0; i < BUF; i++)
		if (buf[i] != (i < n ? last : FILLER))
			wrong("byte at ", RAMET_REPORT_MISMATCH, (uint64_t)&buf[i],
				i < n ? last : FILLER, buf[i]);
}

/* Sends bytes through the FIFO of the serial port, which is in loopback mode. */
static void loop(void)
{
	uint8_t sent[FIFO];
	unsigned n = 1 + (unsigned)(random64(&seed) % FIFO);

	for (unsigned i = 0; i < n; i++)
		sent[i] = buf[i] = (uint8_t)random64(&seed);
	port(strings_outsb, COM1, 1, false, n, buf);
	for (unsigned i = 0; i < FIFO; i++)
		buf[i] = FILLER;
	port(strings_insb, COM1, 1, true, n, buf);
	for (unsigned i = 0; i < n; i++)
		if (buf[i] != sent[i])
			wrong("byte that came back, ", RAMET_REPORT_MISMATCH, i, sent[i], buf[i]);
}

static void beat(void)
{
	static uint32_t values[BEATS_MAX];
	unsigned n = 1 + (unsigned)(random64(&seed) % BEATS_MAX);

	for (unsigned i = 0; i < n; i++)
		values[i] = beats + 1 + i;
	port(strings_outsl, RAMET_DOORBELL + RAMET_DB_HEARTBEAT, 4, false, n, values);
	beats += n;
}

void guest_main(const struct guest_machine *m, unsigned cpu)
{
	if (cpu)
		return;
	outb(COM1_FCR, 1);
	outb(COM1_MCR, MCR_LOOP);
	for (;;) {
		hole(true, 1, 1 + (unsigned)(random64(&seed) % 2000));
		hole(true, 4, 1 + (unsigned)(random64(&seed) % 500));
		hole(false, 1, 1 + (unsigned)(random64(&seed) % 200));
		scratch();
		loop();
		beat();
		db_write(RAMET_DB_PHASE, RAMET_PHASE_READY);
	}
}
