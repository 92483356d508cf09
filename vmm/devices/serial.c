/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Source: National Semiconductor PC16550D data sheet (1995), 8.0 "Registers" and table II.
 * Transmission takes no time: each byte leaves at once, so the transmitter is always empty.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/lock.h"
#include "vmm/devices/serial.h"
#include "vmm/base/board.h"

enum { RBR_THR_DLL, IER_DLM, IIR_FCR, LCR, MCR, LSR, MSR, SCR };

enum {
	IER_RX = 0x01,
	IER_THRE = 0x02,
	IER_LINE = 0x04,
	IER_MODEM = 0x08,
	IIR_NONE = 0x01,
	IIR_THRE = 0x02,
	IIR_RX = 0x04,
	IIR_LINE = 0x06,
	IIR_MODEM = 0x00,
	IIR_FIFO = 0xc0,
	FCR_ENABLE = 0x01,
	FCR_CLEAR_RX = 0x02,
	LCR_DLAB = 0x80,
	MCR_LOOP = 0x10,
	LSR_DATA = 0x01,
	LSR_OVERRUN = 0x02,
	LSR_TX_EMPTY = 0x60,
	MSR_CONNECTED = 0xb0, /* carrier, data set ready, clear to send */
	MSR_RI = 0x40,
};

/* The state that a clone's UART gets a copy of. serial.lock guards it. */
struct uart {
	uint8_t ier, fcr, lcr, mcr, scr, dll, dlm;
	uint8_t lsr_errors; /* error bits of LSR; a read of LSR clears them */
	uint8_t msr;	    /* a read of MSR clears its delta bits */
	bool thre_pending;  /* the transmitter became empty, and no read of IIR has shown that */
	uint8_t rx[64];
	unsigned rx_head, rx_count;
};

struct serial {
	struct device dev;
	struct lock lock;
	struct uart u;
	bool quiet, line;

	struct lock out_lock; /* taken without `lock`; held during port_console(), for the order */
	char out[256];
	size_t out_len;
};

static struct serial *serial_of(struct device *dev)
{
	return (struct serial *)dev;
}

static unsigned rx_depth(const struct uart *u)
{
	return u->fcr & FCR_ENABLE ? sizeof(u->rx) : 1;
}

static unsigned rx_space(const struct uart *u)
{
	unsigned depth = rx_depth(u);

	return u->rx_count < depth ? depth - u->rx_count : 0;
}

static void rx_push(struct uart *u, uint8_t c)
{
	if (!rx_space(u)) {
		u->lsr_errors |= LSR_OVERRUN;
		return;
	}
	u->rx[(u->rx_head + u->rx_count++) % sizeof(u->rx)] = c;
}

static uint8_t rx_pop(struct uart *u)
{
	uint8_t c = u->rx[u->rx_head];

	if (!u->rx_count)
		return 0;
	u->rx_head = (u->rx_head + 1) % sizeof(u->rx);
	u->rx_count--;
	return c;
}

/* The pending interrupt with the highest priority, as in IIR, without IIR_FIFO. */
static uint8_t interrupt(const struct uart *u)
{
	if ((u->ier & IER_LINE) && u->lsr_errors)
		return IIR_LINE;
	if ((u->ier & IER_RX) && u->rx_count)
		return IIR_RX;
	if ((u->ier & IER_THRE) && u->thre_pending)
		return IIR_THRE;
	if ((u->ier & IER_MODEM) && (u->msr & 0x0f))
		return IIR_MODEM;
	return IIR_NONE;
}

/* Updates the modem inputs. In loop-back mode they follow the outputs; otherwise the other end is
 * always connected. */
static void modem_update(struct uart *u)
{
	uint8_t m = u->mcr, now = MSR_CONNECTED, changed;

	if (m & MCR_LOOP) /* DTR, RTS, OUT1, OUT2 -> DSR, CTS, RI, DCD */
		now = (uint8_t)((m & 1) << 5 | (m & 2) << 3 | (m & 4) << 4 | (m & 8) << 4);
	changed = (now ^ u->msr) & 0xf0;
	if (now & MSR_RI) /* the delta bit of RI shows the trailing edge only */
		changed &= (uint8_t)~MSR_RI;
	u->msr = (uint8_t)(now | (u->msr & 0x0f) | changed >> 4);
}

static uint8_t uart_read(struct uart *u, unsigned reg)
{
	uint8_t v;

	switch (reg) {
	case RBR_THR_DLL:
		return u->lcr & LCR_DLAB ? u->dll : rx_pop(u);
	case IER_DLM:
		return u->lcr & LCR_DLAB ? u->dlm : u->ier;
	case IIR_FCR:
		v = interrupt(u);
		if (v == IIR_THRE)
			u->thre_pending = false;
		return v | (u->fcr & FCR_ENABLE ? IIR_FIFO : 0);
	case LCR:
		return u->lcr;
	case MCR:
		return u->mcr;
	case LSR:
		v = LSR_TX_EMPTY | u->lsr_errors | (u->rx_count ? LSR_DATA : 0);
		u->lsr_errors = 0;
		return v;
	case MSR:
		v = u->msr;
		u->msr &= 0xf0;
		return v;
	default:
		return u->scr;
	}
}

static void write_fcr(struct uart *u, uint8_t v)
{
	if (((v ^ u->fcr) & FCR_ENABLE) || (v & FCR_CLEAR_RX))
		u->rx_count = 0;
	u->fcr = v & FCR_ENABLE;
}

/* True: `v` must be sent to the console. */
static bool uart_write(struct uart *u, unsigned reg, uint8_t v)
{
	switch (reg) {
	case RBR_THR_DLL:
		if (u->lcr & LCR_DLAB) {
			u->dll = v;
			break;
		}
		u->thre_pending = true;
		if (!(u->mcr & MCR_LOOP))
			return true;
		rx_push(u, v);
		break;
	case IER_DLM:
		if (u->lcr & LCR_DLAB) {
			u->dlm = v;
			break;
		}
		if (v & ~u->ier & IER_THRE)
			u->thre_pending = true;
		u->ier = v & 0x0f;
		break;
	case IIR_FCR:
		write_fcr(u, v);
		break;
	case LCR:
		u->lcr = v;
		break;
	case MCR:
		u->mcr = v & 0x1f;
		modem_update(u);
		break;
	case SCR:
		u->scr = v;
		break;
	}
	return false;
}

/* Sets the interrupt line. The caller holds the lock. */
static void line_update(struct serial *s)
{
	bool level = interrupt(&s->u) != IIR_NONE;

	if (level != s->line)
		port_irq(s->dev.port, COM1_GSI, level);
	s->line = level;
}

static void out_flush(struct serial *s)
{
	if (s->out_len)
		port_console(s->dev.port, s->out, s->out_len);
	s->out_len = 0;
}

static void out_put(struct serial *s, char c)
{
	lock_take(&s->out_lock);
	s->out[s->out_len++] = c;
	if (c == '\n' || s->out_len == sizeof(s->out))
		out_flush(s);
	lock_release(&s->out_lock);
}

static void out_idle(struct serial *s)
{
	lock_take(&s->out_lock);
	out_flush(s);
	lock_release(&s->out_lock);
}

static void serial_byte(struct serial *s, unsigned reg, bool write, uint8_t *data)
{
	bool leaves = false, idle, room;

	lock_take(&s->lock);
	if (write)
		leaves = uart_write(&s->u, reg, *data);
	else
		*data = uart_read(&s->u, reg);
	/* The guest polls for input, or its driver has no more output. */
	idle = write ? reg == IER_DLM && !(s->u.ier & IER_THRE) : reg == RBR_THR_DLL;
	/* Only when half of the FIFO is free: do not wake the sender for each byte. */
	room = reg == (write ? IIR_FCR : RBR_THR_DLL) && s->u.rx_count <= rx_depth(&s->u) / 2;
	line_update(s);
	lock_release(&s->lock);

	if (room)
		port_input_room(s->dev.port);
	if (leaves)
		out_put(s, (char)*data);
	else if (idle)
		out_idle(s);
}

static void serial_io(struct device *dev, struct vcpu *vcpu, unsigned win, uint64_t addr,
	bool write, void *data, unsigned size)
{
	/* The ISA bus splits a wider access into one access to each register. */
	for (unsigned i = 0; i < size; i++)
		serial_byte(serial_of(dev), (unsigned)(addr + i) & 7, write, (uint8_t *)data + i);
}

size_t serial_input(struct device *dev, const char *buf, size_t len)
{
	struct serial *s = serial_of(dev);
	size_t n = 0;

	lock_take(&s->lock);
	if (!s->quiet) {
		while (n < len && rx_space(&s->u))
			rx_push(&s->u, (uint8_t)buf[n++]);
		line_update(s);
	}
	lock_release(&s->lock);
	return n;
}

static void serial_quiesce(struct device *dev)
{
	struct serial *s = serial_of(dev);

	lock_take(&s->lock);
	s->quiet = true;
	lock_release(&s->lock);
	out_idle(s);
}

/*
 * The VM may have a new irqchip now, loaded from a saved state that lacks the levels of the input
 * lines: set the level of this line. An additional interrupt does no harm; a missing one would.
 */
static void serial_unquiesce(struct device *dev)
{
	struct serial *s = serial_of(dev);

	lock_take(&s->lock);
	s->quiet = false;
	s->line = interrupt(&s->u) != IIR_NONE;
	port_irq(s->dev.port, COM1_GSI, s->line);
	lock_release(&s->lock);
}

static int serial_clone(const struct device *dev, struct port *port, struct device **out)
{
	/* The clone does not get the collected output: the other VM wrote it, before the fork. */
	const struct serial *from = (const struct serial *)dev;
	struct device *to;
	int ret = serial_new(port, &to);

	if (ret)
		return ret;
	serial_of(to)->u = from->u;
	*out = to;
	return 0;
}

static void serial_free(struct device *dev)
{
	struct serial *s = serial_of(dev);

	if (s->dev.port)
		out_flush(s);
	lock_destroy(&s->lock);
	lock_destroy(&s->out_lock);
	free(s);
}

static const struct device_ops serial_ops = {
	.name = "serial",
	.io = serial_io,
	.quiesce = serial_quiesce,
	.unquiesce = serial_unquiesce,
	.clone = serial_clone,
	.loaded = serial_unquiesce,
	.free = serial_free,
};

int serial_new(struct port *port, struct device **out)
{
	struct serial *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->dev.ops = &serial_ops;
	s->dev.port = port;
	s->dev.win[0] = (struct device_window){ SPACE_PIO, COM1_BASE, COM1_LEN };
	lock_init(&s->lock, LOCK_SERIAL);
	lock_init(&s->out_lock, LOCK_SERIAL_OUT);
	s->u.msr = MSR_CONNECTED;
	*out = &s->dev;
	return 0;
}
