// SPDX-License-Identifier: Apache-2.0
#include "guest/metal/trap.h"

#include "guest/metal/boot.h"
#include "guest/metal/cpu.h"
#include "guest/metal/lib.h"

/* boot.S */
extern char trap_stubs[], irq_stub[];
_Noreturn void trap(uint64_t vector, uint64_t error, uint64_t rip);

_Noreturn void trap(uint64_t vector, uint64_t error, uint64_t rip)
{
	uint64_t cr2;

	__asm__ volatile("mov %%cr2, %0" : "=r"(cr2));
	fatal("exception %lu at %lx, error %lx, address %lx", vector, rip, error, cr2);
}

static struct gate {
	uint16_t low, selector, type, mid;
	uint32_t high, reserved;
} idt[IRQ_VECTOR + 1];

static void set_gate(unsigned vector, const char *to)
{
	uint64_t at = (uint64_t)to;

	idt[vector] = (struct gate){ (uint16_t)at, SEL_CODE, 0x8e00, (uint16_t)(at >> 16), 0, 0 };
}

void idt_load(void)
{
	struct {
		uint16_t limit;
		uint64_t base;
	} __attribute__((packed)) idtr = { sizeof idt - 1, (uint64_t)idt };

	__asm__ volatile("lidt %0" : : "m"(idtr));
}

void trap_init(void)
{
	for (unsigned i = 0; i < 32; i++)
		set_gate(i, trap_stubs + i * TRAP_STUB);
	set_gate(IRQ_VECTOR, irq_stub);
	idt_load();
}
