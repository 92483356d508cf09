// SPDX-License-Identifier: Apache-2.0
#include "guest/metal/boot.h"
#include "guest/metal/cpu.h"
#include "guest/metal/hv.h"
#include "guest/metal/lib.h"
#include "guest/metal/memory.h"
#include "guest/metal/tests.h"
#include "guest/metal/vm.h"

const struct hv *hv;

struct start_info { /* Xen's hvm_start_info, as far as it matters */
	uint32_t magic, version, flags, n_modules;
	uint64_t modules, command_line;
};

void metal_main(const struct start_info *info);
_Noreturn void trap(uint64_t vector, uint64_t error, uint64_t rip);
extern char trap_stubs[], irq_stub[];

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

static const struct {
	const char *name;
	void (*run)(void);
} tests[] = {
	{ "share", test_share },
	{ "clones", test_clones },
	{ "validate", test_validate },
	{ "dirty", test_dirty },
	{ "walk", test_walk },
	{ "flush", test_flush },
	{ "smp", test_smp },
	{ "cost", test_cost },
};

static void init(const struct start_info *info)
{
	lib_init(info->command_line ? (const char *)info->command_line : "");
	for (unsigned i = 0; i < 32; i++)
		set_gate(i, trap_stubs + i * TRAP_STUB);
	set_gate(IRQ_VECTOR, irq_stub);
	idt_load();
	hv = hv_svm.present() ? &hv_svm : hv_vmx.present() ? &hv_vmx : NULL;
	if (!hv)
		fatal("this processor has neither SVM with nested paging nor VMX with EPT");
	memory_init();
	cpu_init();
	hv->enable(page_new());
}

void metal_main(const struct start_info *info)
{
	init(info);
	for (unsigned i = 0; i < sizeof tests / sizeof *tests; i++)
		if (arg_is("test", tests[i].name)) {
			print("%s on %s\n", tests[i].name, hv->name);
			tests[i].run();
			print("end: %u ok, %u failed\n", checks_ok, checks_failed);
			machine_end(!checks_failed);
		}
	fatal("test= wants one of share, clones, validate, dirty, walk, flush, smp, cost");
}
