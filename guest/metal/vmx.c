// SPDX-License-Identifier: Apache-2.0
/* Intel's VMX with EPT (SDM vol. 3, chapters 24 to 31; fields: appendix B; exits: appendix C). */
#include "guest/metal/boot.h"
#include "guest/metal/cpu.h"
#include "guest/metal/guest.h"
#include "guest/metal/hv.h"
#include "guest/metal/lib.h"

#define MSR_FEATURE_CONTROL 0x3au
#define FEATURE_LOCK_VMXON  5u /* locked, VMXON outside SMX */
#define MSR_VMX_BASIC	    0x480u
#define MSR_VMX_PROCBASED2  0x48bu
#define MSR_VMX_EPT_CAP	    0x48cu
#define MSR_VMX_TRUE_PIN    0x48du
#define MSR_VMX_TRUE_PROC   0x48eu
#define MSR_VMX_TRUE_EXIT   0x48fu
#define MSR_VMX_TRUE_ENTRY  0x490u
#define CR4_VMXE	    (1u << 13)

#define PIN_EXTERNAL_INTERRUPT (1u << 0)
#define PROC_HLT	       (1u << 7)
#define PROC_SECONDARY	       (1u << 31)
#define PROC2_EPT	       (1u << 1)
#define PROC2_VPID	       (1u << 5)
#define PROC2_UNRESTRICTED     (1u << 7)
#define EXIT_HOST_64	       (1u << 9)
#define EXIT_SAVE_EFER	       (1u << 20)
#define EXIT_LOAD_EFER	       (1u << 21)
#define ENTRY_GUEST_64	       (1u << 9)
#define ENTRY_LOAD_EFER	       (1u << 15)

#define EPT_CAP_X_ONLY	   (1u << 0)
#define EPT_CAP_2M	   (1u << 16)
#define EPT_CAP_1G	   (1u << 17)
#define EPT_CAP_WALK_4	   (1u << 6)
#define EPT_CAP_WB	   (1u << 14)
#define EPT_CAP_INVEPT	   (1u << 20)
#define EPT_CAP_AD	   (1u << 21)
#define EPT_CAP_ONE	   (1u << 25)
#define EPTP_WB_WALK_4	   0x1eu
#define EPTP_AD		   (1u << 6)
#define INVEPT_ONE_CONTEXT 1u

#define REASON_INTERRUPT     1u
#define REASON_HLT	     12u
#define REASON_EPT_VIOLATION 48u
#define REASON_EPT_MISCONFIG 49u
/* exit qualification of an EPT violation: table 28-7 */
#define VIOLATION_WRITE	   (1u << 1)
#define VIOLATION_FETCH	   (1u << 2)
#define VIOLATION_LINEAR   (1u << 7)
#define VIOLATION_NOT_WALK (1u << 8)

enum {
	VPID = 0x0000,
	GUEST_SELECTOR = 0x0800, /* ES CS SS DS FS GS LDTR TR, in steps of 2 */
	HOST_SELECTOR = 0x0c00,	 /* ES CS SS DS FS GS TR */
	EPTP = 0x201a,
	FAULT_GPA = 0x2400,
	LINK = 0x2800,
	GUEST_EFER = 0x2806,
	HOST_EFER = 0x2c02,
	PIN_CONTROLS = 0x4000,
	PROC_CONTROLS = 0x4002,
	EXIT_CONTROLS = 0x400c,
	ENTRY_CONTROLS = 0x4012,
	PROC2_CONTROLS = 0x401e,
	VM_ERROR = 0x4400,
	EXIT_REASON = 0x4402,
	GUEST_LIMIT = 0x4800,
	GUEST_RIGHTS = 0x4814,
	QUALIFICATION = 0x6400,
	GUEST_CR0 = 0x6800,
	GUEST_CR3 = 0x6802,
	GUEST_CR4 = 0x6804,
	GUEST_DR7 = 0x681a,
	GUEST_RIP = 0x681e,
	GUEST_RFLAGS = 0x6820,
	HOST_CR0 = 0x6c00,
	HOST_CR3 = 0x6c02,
	HOST_CR4 = 0x6c04,
	HOST_GDTR = 0x6c0c,
	HOST_IDTR = 0x6c0e,
	HOST_RIP = 0x6c16,
};

extern char vmx_exited[];

/* RFLAGS CF or ZF: the instruction failed (SDM vol. 3, 30.2). */
#define vmx(instruction, ...)                             \
	({                                                \
		bool failed_;                             \
		__asm__ volatile(instruction "; setbe %0" \
				 : "=qm"(failed_)         \
				 : __VA_ARGS__            \
				 : "cc", "memory");       \
		failed_;                                  \
	})

static void write_field(uint64_t field, uint64_t v)
{
	if (vmx("vmwrite %1, %2", "r"(v), "r"(field)))
		fatal("vmwrite of field %lx failed", field);
}

static uint64_t read_field(uint64_t field)
{
	uint64_t v;

	__asm__ volatile("vmread %1, %0" : "=r"(v) : "r"(field) : "cc");
	return v;
}

/* Sets the bits that must be 1 (low half of the MSR) and those in `want`. It is a fatal error if a
 * wanted bit may not be 1 (high half). */
static void write_controls(uint64_t field, uint32_t msr, uint32_t want)
{
	uint64_t can = rdmsr(msr);

	if (want & ~(uint32_t)(can >> 32))
		fatal("controls %lx: this processor has %lx, not %x", field, can, want);
	write_field(field, want | (uint32_t)can);
}

static bool vmx_present(void)
{
	const uint32_t want = EPT_CAP_WALK_4 | EPT_CAP_WB | EPT_CAP_INVEPT | EPT_CAP_ONE;

	return cpuid(1).c & 1 << 5 && (rdmsr(MSR_VMX_EPT_CAP) & want) == want;
}

static void vmx_caps(struct mmu_caps *caps)
{
	uint64_t cap = rdmsr(MSR_VMX_EPT_CAP);

	*caps = (struct mmu_caps){ .phys_bits = (uint8_t)cpuid(0x80000008).a,
		.page_2m = cap & EPT_CAP_2M,
		.page_1g = cap & EPT_CAP_1G,
		.execute_only = cap & EPT_CAP_X_ONLY };
}

static void set_revision(void *page)
{
	memset(page, 0, 4096);
	*(uint32_t *)page = (uint32_t)rdmsr(MSR_VMX_BASIC) & 0x7fffffff;
}

static void vmx_enable(void *page)
{
	uint64_t phys = (uint64_t)page;

	if (!(rdmsr(MSR_FEATURE_CONTROL) & 1))
		wrmsr(MSR_FEATURE_CONTROL, FEATURE_LOCK_VMXON);
	write_cr4(read_cr4() | CR4_VMXE);
	set_revision(page);
	if (vmx("vmxon %1", "m"(phys)))
		fatal("vmxon failed");
}

static void load_guest(const struct vcpu *v)
{
	for (unsigned i = 0; i < 8; i++) { /* flat; LDTR (6) unusable */
		uint32_t rights = i == 1   ? (v->paged ? 0xa09b : 0xc09b)
				  : i == 6 ? 0x10000
				  : i == 7 ? 0x8b
					   : 0xc093;

		write_field(GUEST_SELECTOR + 2 * i, i == 1   ? SEL_CODE
						    : i == 7 ? SEL_TSS
							     : SEL_DATA);
		write_field(GUEST_LIMIT + 2 * i, i == 7 ? 0x67 : ~0u);
		write_field(GUEST_RIGHTS + 2 * i, rights);
	}
	write_field(GUEST_SELECTOR + 2 * 6, 0);
	write_field(LINK, ~0ull);
	write_field(GUEST_EFER, v->paged ? 0x500 : 0);
	write_field(GUEST_CR0, v->paged ? 0x80000031 : 0x31);
	write_field(GUEST_CR3, v->paged ? GUEST_PML4 : 0);
	write_field(GUEST_CR4, CR4_VMXE | (v->paged ? 0x20 : 0));
	write_field(GUEST_DR7, 0x400);
}

static void load_host(void)
{
	struct {
		uint16_t limit;
		uint64_t base;
	} __attribute__((packed)) gdtr, idtr;

	__asm__ volatile("sgdt %0; sidt %1" : "=m"(gdtr), "=m"(idtr));
	for (unsigned i = 0; i < 6; i++)
		write_field(HOST_SELECTOR + 2 * i, i == 1 ? SEL_CODE : SEL_DATA);
	write_field(HOST_SELECTOR + 2 * 6, SEL_TSS);
	write_field(HOST_CR0, read_cr0());
	write_field(HOST_CR3, read_cr3());
	write_field(HOST_CR4, read_cr4());
	write_field(HOST_EFER, rdmsr(0xc0000080));
	write_field(HOST_GDTR, gdtr.base);
	write_field(HOST_IDTR, idtr.base);
	write_field(HOST_RIP, (uint64_t)vmx_exited);
}

/* Makes the processor write its cached VMCS data back to memory. */
static void vmx_leave(struct vcpu *v)
{
	uint64_t phys = (uint64_t)v->page;

	if (vmx("vmclear %1", "m"(phys)))
		fatal("vmclear failed");
	v->launched = false;
}

/* Makes v's VMCS the current one of this processor. */
static void make_current(struct vcpu *v)
{
	uint64_t phys = (uint64_t)v->page;

	if (!v->ready) {
		set_revision(v->page);
		vmx_leave(v);
	}
	if (vmx("vmptrld %1", "m"(phys)))
		fatal("vmptrld failed");
	if (v->ready)
		return;
	v->ready = true;
	write_controls(PIN_CONTROLS, MSR_VMX_TRUE_PIN, PIN_EXTERNAL_INTERRUPT);
	write_controls(PROC_CONTROLS, MSR_VMX_TRUE_PROC, PROC_HLT | PROC_SECONDARY);
	write_controls(
		PROC2_CONTROLS, MSR_VMX_PROCBASED2, PROC2_EPT | PROC2_VPID | PROC2_UNRESTRICTED);
	write_controls(
		EXIT_CONTROLS, MSR_VMX_TRUE_EXIT, EXIT_HOST_64 | EXIT_SAVE_EFER | EXIT_LOAD_EFER);
	write_controls(ENTRY_CONTROLS, MSR_VMX_TRUE_ENTRY,
		ENTRY_LOAD_EFER | (v->paged ? ENTRY_GUEST_64 : 0));
	write_field(VPID, v->id);
	load_guest(v);
	load_host();
}

/* Flushes for all VPIDs: all vCPUs with this EPTP use the changed tables (SDM vol. 3, 29.4.3). */
static void invept(uint64_t eptp)
{
	uint64_t context[2] = { eptp, 0 };

	if (vmx("invept %1, %2", "m"(context), "r"((uint64_t)INVEPT_ONE_CONTEXT)))
		fatal("invept failed");
}

static void vmx_run(struct vcpu *v, uint64_t top, struct exit *e)
{
	uint64_t bits = EPTP_WB_WALK_4 | (v->log ? EPTP_AD : 0);

	if (v->log && !(rdmsr(MSR_VMX_EPT_CAP) & EPT_CAP_AD))
		fatal("this processor does not set A and D in EPT");
	make_current(v);
	write_field(EPTP, top | bits);
	write_field(GUEST_RIP, v->rip);
	write_field(GUEST_RFLAGS, v->rflags);
	if (atomic_exchange(&v->flush, false)) {
		invept(top | bits);
		if (v->top && v->top != top)
			invept(v->top | bits);
	}
	v->top = top;
	if (vmx_enter(v, v->launched))
		fatal("VM entry failed: error %lu", read_field(VM_ERROR));
	v->launched = true;
	v->rip = read_field(GUEST_RIP);
	v->rflags = read_field(GUEST_RFLAGS);

	*e = (struct exit){ .kind = EXIT_OTHER,
		.why = read_field(EXIT_REASON),
		.info = read_field(QUALIFICATION) };
	if (e->why == REASON_HLT) {
		v->rip++;
		e->kind = EXIT_HALT;
	} else if (e->why == REASON_INTERRUPT) {
		__asm__ volatile("sti; nop; cli"); /* take the interrupt, which is still pending */
		e->kind = EXIT_KICK;
	} else if (e->why == REASON_EPT_VIOLATION || e->why == REASON_EPT_MISCONFIG) {
		e->kind = e->why == REASON_EPT_VIOLATION ? EXIT_FAULT : EXIT_MISCONFIGURED;
		e->at = gpa(read_field(FAULT_GPA));
		e->w = e->info & VIOLATION_WRITE;
		e->x = e->info & VIOLATION_FETCH;
		e->walk = e->info & VIOLATION_LINEAR && !(e->info & VIOLATION_NOT_WALK);
	}
}

const struct hv hv_vmx = { "VMX", &mmu_ept, vmx_present, vmx_caps, vmx_enable, vmx_run, vmx_leave };
