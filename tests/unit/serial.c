/* SPDX-License-Identifier: Apache-2.0 */
/* The UART as a driver sees it, and where the bytes go. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "tests/unit/recorder.h"
#include "vmm/devices/serial.h"

enum { DATA, IER, IIR, LCR, MCR, LSR, MSR, SCR, FCR = IIR };

static struct recorder *vm;
static struct device *uart;

static int make(void **state)
{
	vm = calloc(1, sizeof(*vm));
	if (!vm)
		return -1;
	vm->port.ops = &recorder_ops;
	return serial_new(&vm->port, &uart);
}

static int unmake(void **state)
{
	uart->ops->free(uart);
	free(vm);
	return 0;
}

static void out(unsigned reg, uint8_t v)
{
	dev_write(uart, NULL, reg, v, 1);
}

static uint8_t in(unsigned reg)
{
	return (uint8_t)dev_read(uart, reg, 1);
}

static void send(const char *s)
{
	for (; *s; s++)
		out(DATA, (uint8_t)*s);
}

static void test_reset_state(void **state)
{
	assert_int_equal(in(IER), 0);
	assert_int_equal(in(IIR), 0x01);
	assert_int_equal(in(LSR), 0x60);
	assert_int_equal(in(MSR), 0xb0);
	assert_int_equal(in(DATA), 0);
	assert_false(vm->irq[4]);
}

static void test_room_for_input(void **state)
{
	const char fifo[100] = "";

	assert_int_equal(serial_input(uart, "ab", 2), 1);
	assert_int_equal(in(LSR), 0x61);
	assert_int_equal(vm->rooms, 0);
	assert_int_equal(in(DATA), 'a');
	assert_int_equal(vm->rooms, 1);
	out(FCR, 0x01); /* a FIFO instead of one byte */
	assert_int_equal(vm->rooms, 2);
	assert_int_equal(serial_input(uart, fifo, sizeof(fifo)), 64);
	for (unsigned i = 0; i < 31; i++)
		in(DATA);
	assert_int_equal(vm->rooms, 2);
	in(DATA); /* half of it has been read */
	assert_int_equal(vm->rooms, 3);
}

/* The steps by which Linux's 8250 driver (autoconfig()) decides what it has. */
static void test_probe(void **state)
{
	out(IER, 0);
	assert_int_equal(in(IER), 0);
	out(IER, 0x0f);
	assert_int_equal(in(IER), 0x0f);
	out(IER, 0xff);
	assert_int_equal(in(IER), 0x0f);
	out(IER, 0);
	out(MCR, 0x1a);
	assert_int_equal(in(MSR)&0xf0, 0x90);
	out(MCR, 0);
	out(FCR, 1);
	assert_int_equal(in(IIR) >> 6, 3); /* 16550A: working FIFOs */
	out(FCR, 0);
	assert_int_equal(in(IIR) >> 6, 0);
	out(SCR, 0x5a);
	assert_int_equal(in(SCR), 0x5a);
	/* With DLAB set, only the divisor latches are accessible instead. */
	out(LCR, 0x83);
	out(DATA, 0x0c);
	out(IER, 0x01);
	assert_int_equal(in(DATA), 0x0c);
	assert_int_equal(in(IER), 0x01);
	out(LCR, 0x03);
	assert_int_equal(in(IER), 0);
	assert_int_equal(in(LCR), 0x03);
	assert_int_equal(vm->console_len, 0);
}

/* serial8250_THRE_test(): enabling the interrupt again must raise it again. */
static void test_thre(void **state)
{
	out(IER, 0x02);
	assert_true(vm->irq[4]);
	assert_int_equal(in(IIR), 0x02);
	assert_false(vm->irq[4]); /* reading IIR acknowledges it */
	assert_int_equal(in(IIR), 0x01);
	out(IER, 0);
	out(IER, 0x02);
	assert_int_equal(in(IIR), 0x02);
	out(DATA, 'x');
	assert_true(vm->irq[4]);
	assert_int_equal(in(IIR), 0x02);
	out(IER, 0x02); /* no edge of the enable bit: nothing new */
	assert_int_equal(in(IIR), 0x01);
}

static void test_output(void **state)
{
	char big[1000];

	send("one line\n");
	assert_string_equal(vm->console, "one line\n");
	assert_int_equal(vm->console_calls, 1);
	send("login: ");
	assert_int_equal(vm->console_calls, 1);
	out(IER, 0x02);
	assert_int_equal(vm->console_calls, 1);
	out(IER, 0x00); /* the driver has nothing more */
	assert_string_equal(vm->console, "one line\nlogin: ");
	send("? ");
	in(DATA); /* the guest polls for an answer */
	assert_string_equal(vm->console, "one line\nlogin: ? ");
	memset(big, 'b', sizeof(big));
	big[999] = 0;
	send(big);
	uart->ops->quiesce(uart); /* a fork or stop loses no output */
	assert_int_equal(vm->console_len, 18 + 999);
}

static void test_input(void **state)
{
	char buf[100];

	memset(buf, 'i', sizeof(buf));
	assert_int_equal(serial_input(uart, "ab", 2), 1); /* no FIFO: one byte */
	assert_int_equal(in(DATA), 'a');
	out(FCR, 1);
	assert_int_equal(serial_input(uart, "hello", 5), 5);
	assert_false(vm->irq[4]);
	out(IER, 0x01);
	assert_true(vm->irq[4]);
	assert_int_equal(in(IIR), 0xc4);
	for (const char *s = "hello"; *s; s++) {
		assert_int_equal(in(LSR), 0x61);
		assert_int_equal(in(DATA), *s);
	}
	assert_int_equal(in(LSR), 0x60);
	assert_false(vm->irq[4]);
	for (unsigned round = 0; round < 3; round++) { /* around the ring */
		assert_int_equal(serial_input(uart, buf, sizeof(buf)), 64);
		assert_int_equal(serial_input(uart, buf, 1), 0);
		assert_int_equal(in(LSR), 0x61); /* input from outside never overruns */
		for (unsigned i = 0; i < 64; i++)
			assert_int_equal(in(DATA), 'i');
	}
	serial_input(uart, "x", 1);
	out(FCR, 3);
	assert_int_equal(in(LSR), 0x60);
	assert_false(vm->irq[4]);
}

static void test_loopback(void **state)
{
	out(FCR, 1);
	out(IER, 0x0d);
	out(MCR, 0x10);
	in(MSR);
	send("self");
	assert_int_equal(vm->console_len, 0);
	assert_int_equal(in(DATA), 's');
	for (unsigned i = 0; i < 62; i++)
		out(DATA, 'z');
	assert_int_equal(in(IIR), 0xc6); /* line status comes first: overrun */
	assert_int_equal(in(LSR), 0x63);
	assert_int_equal(in(IIR), 0xc4);
	out(FCR, 3);
	/* Outputs come back as inputs, with deltas, which interrupt until read. */
	for (unsigned mcr = 0; mcr < 16; mcr++) {
		out(MCR, (uint8_t)(0x10 | mcr));
		assert_int_equal(
			in(MSR) >> 4, (mcr & 1) << 1 | (mcr & 2) >> 1 | (mcr & 4) | (mcr & 8));
	}
	assert_int_equal(in(IIR), 0xc1);
	out(MCR, 0x10);
	assert_true(vm->irq[4]);
	assert_int_equal(in(IIR), 0xc0);
	assert_int_equal(in(MSR), 0x0f);
	assert_int_equal(in(IIR), 0xc1);
	assert_false(vm->irq[4]);
	out(MCR, 0x14); /* ring going up has no delta */
	assert_int_equal(in(MSR), 0x40);
}

/* A write to two registers at once, as the ISA bus splits it. */
static void test_wide(void **state)
{
	dev_write(uart, NULL, SCR, 0x77, 1);
	dev_write(uart, NULL, LCR, 0x0203, 2);
	assert_int_equal(in(LCR), 0x03);
	assert_int_equal(in(MCR), 0x02);
	assert_int_equal(dev_read(uart, LCR, 4), 0xb0600203);
	assert_int_equal(dev_read(uart, SCR, 4) & 0xff, 0x77);
}

/* A fork: the clone has the registers and the input, the parent its unfinished line. */
static void test_clone(void **state)
{
	static struct recorder child = { .port = { &recorder_ops } };
	struct device *frozen, *copy, *parent = uart;

	out(FCR, 1);
	out(LCR, 0x1b);
	out(IER, 0x01);
	serial_input(uart, "key", 3);
	send("half");
	uart->ops->quiesce(uart);
	assert_int_equal(serial_input(uart, "late", 4), 0);
	assert_string_equal(vm->console, "half");
	assert_int_equal(uart->ops->clone(uart, NULL, &frozen), 0);
	assert_int_equal(frozen->ops->clone(frozen, &child.port, &copy), 0);
	frozen->ops->free(frozen);
	uart->ops->unquiesce(uart);
	copy->ops->loaded(copy);
	assert_true(child.irq[4]); /* parent and child both have the pending interrupt */
	assert_true(vm->irq[4]);
	uart = copy;
	assert_int_equal(in(LCR), 0x1b);
	assert_int_equal(in(DATA), 'k');
	assert_int_equal(in(DATA), 'e');
	assert_int_equal(in(DATA), 'y');
	assert_false(child.irq[4]);
	assert_int_equal(serial_input(uart, "mine", 4), 4);
	send("child\n");
	assert_string_equal(child.console, "child\n");
	copy->ops->free(copy);
	uart = parent;
	assert_int_equal(in(DATA), 'k');
	send(" done\n");
	assert_string_equal(vm->console, "half done\n");
}

int main(void)
{
#define TEST(t) cmocka_unit_test_setup_teardown(t, make, unmake)
	const struct CMUnitTest tests[] = {
		TEST(test_reset_state),
		TEST(test_room_for_input),
		TEST(test_probe),
		TEST(test_thre),
		TEST(test_output),
		TEST(test_input),
		TEST(test_loopback),
		TEST(test_wide),
		TEST(test_clone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
