// SPDX-License-Identifier: Apache-2.0
#include "guest/metal/lib.h"

#include "guest/metal/cpu.h"

#include <stdarg.h>

#define COM1	   0x3f8
#define QEMU_EXIT  0xf4	  /* -device isa-debug-exit,iobase=0xf4 */
#define BOCHS_EXIT 0x8900 /* writing "Shutdown" here ends bochs */

unsigned checks_ok, checks_failed;
static const char *arguments = "";

/* Uses words where possible. Most calls set or copy a page, and each repetition counts as one
 * instruction in test-cost.c. */
void *memset(void *dst, int c, size_t n)
{
	void *d = dst;
	size_t words = n / 8, rest = n % 8;

	__asm__ volatile("rep stosq"
			 : "+D"(d), "+c"(words)
			 : "a"((uint8_t)c * 0x0101010101010101ull)
			 : "memory");
	__asm__ volatile("rep stosb" : "+D"(d), "+c"(rest) : "a"(c) : "memory");
	return dst;
}

void *memcpy(void *dst, const void *src, size_t n)
{
	void *d = dst;
	size_t words = n / 8, rest = n % 8;

	__asm__ volatile("rep movsq" : "+D"(d), "+S"(src), "+c"(words) : : "memory");
	__asm__ volatile("rep movsb" : "+D"(d), "+S"(src), "+c"(rest) : : "memory");
	return dst;
}

void lib_init(const char *args)
{
	arguments = args;
	outb(COM1 + 3, 0x80); /* divisor 1: 115200 */
	outb(COM1, 1);
	outb(COM1 + 1, 0);
	outb(COM1 + 3, 3); /* 8N1 */
}

static void put(char c)
{
	while (!(inb(COM1 + 5) & 0x20))
		;
	outb(COM1, (uint8_t)c);
}

static void put_number(uint64_t v, unsigned base)
{
	char digits[20];
	unsigned n = 0;

	do
		digits[n++] = "0123456789abcdef"[v % base];
	while (v /= base);
	while (n)
		put(digits[--n]);
}

static void vprint(const char *f, va_list ap)
{
	for (; *f; f++) {
		bool l;

		if (*f != '%') {
			put(*f);
			continue;
		}
		l = *++f == 'l';
		f += l;
		if (*f == 's')
			for (const char *s = va_arg(ap, const char *); *s; s++)
				put(*s);
		else
			put_number(l ? va_arg(ap, uint64_t) : va_arg(ap, uint32_t),
				*f == 'x' ? 16 : 10);
	}
}

void print(const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vprint(format, ap);
	va_end(ap);
}

_Noreturn void machine_end(bool ok)
{
	while (!(inb(COM1 + 5) & 0x40)) /* until all is sent */
		;
	outb(QEMU_EXIT, ok ? 0 : 1);
	for (const char *s = "Shutdown"; *s; s++)
		outb(BOCHS_EXIT, (uint8_t)*s);
	for (;;)
		__asm__ volatile("cli; hlt");
}

_Noreturn void fatal(const char *format, ...)
{
	va_list ap;

	print("fatal: ");
	va_start(ap, format);
	vprint(format, ap);
	va_end(ap);
	print("\n");
	machine_end(false);
}

/* Returns what follows KEY=, or NULL. */
static const char *arg(const char *key)
{
	for (const char *a = arguments; *a;) {
		const char *k = key;

		while (*k && *a == *k)
			a++, k++;
		if (!*k && *a == '=')
			return a + 1;
		while (*a && *a != ' ')
			a++;
		while (*a == ' ')
			a++;
	}
	return NULL;
}

uint64_t arg_number(const char *key, uint64_t none)
{
	const char *a = arg(key);
	uint64_t v = 0;

	if (!a)
		return none;
	for (; *a >= '0' && *a <= '9'; a++)
		v = v * 10 + (uint64_t)(*a - '0');
	if (*a == 'K' || *a == 'M' || *a == 'G')
		v <<= *a == 'K' ? 10 : *a == 'M' ? 20 : 30, a++;
	if (*a && *a != ' ')
		fatal("%s= wants a number, perhaps with K, M or G", key);
	return v;
}

bool arg_is(const char *key, const char *value)
{
	const char *a = arg(key);

	if (!a)
		return false;
	while (*value && *a == *value)
		a++, value++;
	return !*value && (!*a || *a == ' ');
}

void check(const char *in, const char *what, uint64_t is, uint64_t should_be)
{
	if (is == should_be) {
		checks_ok++;
		print("ok %s: %s: %lu\n", in, what, is);
		return;
	}
	checks_failed++;
	print("not ok %s: %s: %lu, should be %lu\n", in, what, is, should_be);
}
