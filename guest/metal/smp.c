// SPDX-License-Identifier: Apache-2.0
/* The second processor, the interrupts between the processors, and the flushes, which use these
 * interrupts. */
#include "guest/metal/boot.h"
#include "guest/metal/cpu.h"
#include "guest/metal/lib.h"
#include "guest/metal/memory.h"
#include "guest/metal/trap.h"
#include "guest/metal/vm.h"

/* Local APIC registers (SDM vol. 3, table 11-1). */
#define APIC_SVR	0x0f0
#define APIC_ICR	0x300
#define APIC_ICR_TO	0x310
#define APIC_TIMER	0x320
#define APIC_TIMER_INIT 0x380
#define APIC_TIMER_DIV	0x3e0
#define SVR_ON		0x1ff
#define TIMER_PERIODIC	(1u << 17)
#define TIMER_MASKED	(1u << 16)
#define TIMER_DIV_1	0xbu
#define ICR_PENDING	(1u << 12)
#define PIC_MASKS	0x21	 /* and 0xa1 */
#define ICR_INIT	0xc4500u /* to all other processors */
#define ICR_START	0xc4600u

extern char ap_start[], ap_start_end[];
void ap_main(void);

_Atomic unsigned last_flush;
bool leave_out_flushes;

static struct {
	_Atomic bool up, stop;
	struct vcpu *_Atomic vcpu; /* the vCPU that it runs; NULL: done */
	enum vcpu_state state;	   /* the state in which that vCPU ended */
	void *page;		   /* for hv->enable() */
} other;

static void send(uint32_t to, uint32_t what)
{
	apic_write(APIC_ICR_TO, to << 24);
	apic_write(APIC_ICR, what);
	while (apic_read(APIC_ICR) & ICR_PENDING)
		__builtin_ia32_pause();
}

void timer_set(uint32_t ticks)
{
	apic_write(APIC_TIMER_DIV, TIMER_DIV_1);
	apic_write(APIC_TIMER, IRQ_VECTOR | (ticks ? TIMER_PERIODIC : TIMER_MASKED));
	apic_write(APIC_TIMER_INIT, ticks);
	if (!ticks)
		__asm__ volatile("sti; nop; cli"); /* take an interrupt that may be pending */
}

/* Makes the processor that runs v leave its guest. It flushes before it enters the guest again. */
static void kick(struct vcpu *v)
{
	uint64_t exits = v->exits;
	uint32_t where = v->inside;

	if (!where)
		return;
	send(where - 1, IRQ_VECTOR);
	while (v->inside == where && v->exits == exits)
		__builtin_ia32_pause();
}

/*
 * mmu_ops.flush. A vCPU that is not inside its guest flushes at its next entry. A vCPU sets
 * `inside` before it reads `flush`: so either it sees our `flush`, or we see it inside and kick it.
 */
void cpu_flush(void *ctx, struct mmu_root *root, const struct mmu_flush *what)
{
	struct vm *vm = (struct vm *)((char *)root - offsetof(struct vm, root));

	last_flush = what->kind;
	if (leave_out_flushes)
		return;
	for (unsigned i = 0; i < vm->vcpus; i++) {
		atomic_store(&vm->vcpu[i].flush, true);
		kick(&vm->vcpu[i]);
	}
}

void cpu_init(void)
{
	/* Firmware may have left the PICs' timer on. */
	outb(PIC_MASKS, 0xff);
	outb(PIC_MASKS + 0x80, 0xff);
	apic_write(APIC_SVR, SVR_ON);
}

/* Called before another processor runs v. Makes v flush at its next entry: a processor that ran v
 * before may still have old translations. */
static void leave(struct vcpu *v)
{
	if (v->ready)
		hv->leave(v);
	atomic_store(&v->flush, true);
}

void ap_main(void)
{
	struct vcpu *v;

	idt_load();
	cpu_init();
	hv->enable(other.page);
	other.up = true;
	for (;;) {
		while (!(v = other.vcpu))
			__builtin_ia32_pause();
		while ((other.state = vcpu_go(v)) == VCPU_BUSY && !other.stop)
			;
		leave(v);
		other.vcpu = NULL;
	}
}

void cpu_start_other(void)
{
	memcpy((void *)AP_START, ap_start, (size_t)(ap_start_end - ap_start));
	other.page = page_new();
	send(0, ICR_INIT);
	send(0, ICR_START | AP_START >> 12);
	for (uint64_t i = 0; !other.up; i++) {
		if (i == 100000000)
			fatal("there is no other processor");
		__builtin_ia32_pause();
	}
}

void cpu_give(struct vcpu *v)
{
	leave(v);
	other.stop = false;
	other.vcpu = v;
}

bool cpu_is_done(void)
{
	return !other.vcpu;
}

enum vcpu_state cpu_stop(void)
{
	struct vcpu *v = other.vcpu;

	other.stop = true;
	while (other.vcpu) {
		kick(v);
		__builtin_ia32_pause();
	}
	return other.state;
}
