// SPDX-License-Identifier: Apache-2.0
/* AMD's SVM with nested paging (APM vol. 2, chapter 15; the VMCB: appendix B). */
#include "guest/metal/boot.h"
#include "guest/metal/cpu.h"
#include "guest/metal/guest.h"
#include "guest/metal/hv.h"
#include "guest/metal/lib.h"

#define MSR_EFER     0xc0000080u
#define MSR_VM_CR    0xc0010114u
#define MSR_HSAVE    0xc0010117u
#define EFER_LME     (1u << 8)
#define EFER_LMA     (1u << 10)
#define EFER_NXE     (1u << 11)
#define EFER_SVME    (1u << 12)
#define VM_CR_SVMDIS (1u << 4)

#define INTERCEPT_INTR	   (1u << 0)
#define INTERCEPT_NMI	   (1u << 1)
#define INTERCEPT_HLT	   (1u << 24)
#define INTERCEPT_SHUTDOWN (1u << 31)
#define INTERCEPT_VMRUN	   (1u << 0)
#define V_INTR_MASKING	   (1u << 24)
#define NP_ENABLE	   1u
#define MAX_ASIDS	   64u /* more are not needed here */
#define SVM_CPUS	   2u
#define TLB_FLUSH_ASID	   3u
#define TLB_FLUSH_ALL	   1u

#define EXIT_CODE_INTR 0x60u
#define EXIT_CODE_HLT  0x78u
#define EXIT_CODE_NPF  0x400u
/* EXITINFO1 of a nested page fault (15.25.6): the error code of a page fault, and bits above it */
#define NPF_PRESENT    (1u << 0)
#define NPF_WRITE      (1u << 1)
#define NPF_RESERVED   (1u << 3)
#define NPF_FETCH      (1u << 4)
#define NPF_GUEST_WALK (1ull << 33)

struct segment {
	uint16_t selector, attr;
	uint32_t limit;
	uint64_t base;
};

struct vmcb {
	uint32_t intercept_cr, intercept_dr, intercept_exceptions, intercept[2];
	uint8_t pad0[0x58 - 0x14];
	uint32_t asid, tlb_control;
	uint64_t v_intr, interrupt_shadow, exit_code, exit_info[2], exit_int_info, np_enable;
	uint8_t pad1[0xb0 - 0x98];
	uint64_t n_cr3;
	uint8_t pad2[0x400 - 0xb8];
	struct segment es, cs, ss, ds, fs, gs, gdtr, ldtr, idtr, tr;
	uint8_t pad3[0x4cb - 0x4a0], cpl;
	uint32_t pad4;
	uint64_t efer;
	uint8_t pad5[0x548 - 0x4d8];
	uint64_t cr4, cr3, cr0, dr7, dr6, rflags, rip;
	uint8_t pad6[0x5d8 - 0x580];
	uint64_t rsp, pad7[3], rax;
	uint8_t pad8[0x668 - 0x600];
	uint64_t g_pat;
};
_Static_assert(__builtin_offsetof(struct vmcb, asid) == 0x58, "appendix B");
_Static_assert(__builtin_offsetof(struct vmcb, exit_code) == 0x70, "appendix B");
_Static_assert(__builtin_offsetof(struct vmcb, np_enable) == 0x90, "appendix B");
_Static_assert(__builtin_offsetof(struct vmcb, n_cr3) == 0xb0, "appendix B");
_Static_assert(__builtin_offsetof(struct vmcb, cs) == 0x410, "appendix B");
_Static_assert(__builtin_offsetof(struct vmcb, tr) == 0x490, "appendix B");
_Static_assert(__builtin_offsetof(struct vmcb, efer) == 0x4d0, "appendix B");
_Static_assert(__builtin_offsetof(struct vmcb, cr4) == 0x548, "appendix B");
_Static_assert(__builtin_offsetof(struct vmcb, rip) == 0x578, "appendix B");
_Static_assert(__builtin_offsetof(struct vmcb, rsp) == 0x5d8, "appendix B");
_Static_assert(__builtin_offsetof(struct vmcb, rax) == 0x5f8, "appendix B");
_Static_assert(__builtin_offsetof(struct vmcb, g_pat) == 0x668, "appendix B");

static bool svm_present(void)
{
	/* SVM: Fn8000_0001 ECX 2; nested paging: Fn8000_000A EDX 0 */
	return cpuid(0x80000000).a >= 0x8000000a && cpuid(0x80000001).c & 4 &&
	       cpuid(0x8000000a).d & 1 && !(rdmsr(MSR_VM_CR) & VM_CR_SVMDIS);
}

static uint32_t tlb_flush, n_asids;

static void svm_enable(void *page)
{
	n_asids = cpuid(0x8000000a).b;
	if (n_asids > MAX_ASIDS)
		n_asids = MAX_ASIDS;
	tlb_flush = cpuid(0x8000000a).d & 1 << 6 ? TLB_FLUSH_ASID : TLB_FLUSH_ALL;
	wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SVME);
	wrmsr(MSR_HSAVE, (uint64_t)page);
}

static void svm_caps(struct mmu_caps *caps)
{
	*caps = (struct mmu_caps){ .phys_bits = (uint8_t)cpuid(0x80000008).a,
		.page_2m = true,
		.page_1g = cpuid(0x80000001).d & 1 << 26,
		.no_execute = rdmsr(MSR_EFER) & EFER_NXE };
}

static struct vmcb *load(struct vcpu *v)
{
	const struct segment data = { SEL_DATA, 0xc93, ~0u, 0 };
	struct vmcb *c = v->page;

	memset(c, 0, 4096);
	c->intercept[0] = INTERCEPT_INTR | INTERCEPT_NMI | INTERCEPT_HLT | INTERCEPT_SHUTDOWN;
	c->intercept[1] = INTERCEPT_VMRUN;
	c->v_intr = V_INTR_MASKING;
	c->np_enable = NP_ENABLE;
	c->es = c->ss = c->ds = c->fs = c->gs = data;
	c->cs = (struct segment){ SEL_CODE, v->paged ? 0xa9b : 0xc9b, ~0u, 0 };
	c->tr = (struct segment){ SEL_TSS, 0x8b, 0x67, 0 };
	c->efer = EFER_SVME | (v->paged ? EFER_LME | EFER_LMA : 0);
	c->cr0 = v->paged ? 0x80000011 : 0x11; /* PG, ET, PE */
	c->cr3 = v->paged ? GUEST_PML4 : 0;
	c->cr4 = v->paged ? 0x20 : 0; /* PAE */
	c->g_pat = 0x0007040600070406;
	c->dr6 = 0xffff0ff0;
	c->dr7 = 0x400;
	v->ready = true;
	return c;
}

/* There are more vCPUs than ASIDs. A vCPU flushes if another one used its ASID on this processor
 * before. */
static uint32_t asid_of(struct vcpu *v)
{
	static uint32_t last[SVM_CPUS][MAX_ASIDS];
	uint32_t asid = 1 + v->id % (n_asids - 1), cpu = cpu_number() % SVM_CPUS;

	if (last[cpu][asid] != v->id)
		atomic_store(&v->flush, true);
	last[cpu][asid] = v->id;
	return asid;
}

static void svm_run(struct vcpu *v, uint64_t top, struct exit *e)
{
	struct vmcb *c = v->ready ? v->page : load(v);

	/* A flush of the ASID also drops the translations of an old top table. */
	c->n_cr3 = v->top = top;
	c->asid = asid_of(v);
	c->tlb_control = atomic_exchange(&v->flush, false) ? tlb_flush : 0;
	c->rip = v->rip;
	c->rflags = v->rflags;
	c->rax = v->gpr[RAX];
	svm_enter(v, (uint64_t)c);
	v->rip = c->rip;
	v->rflags = c->rflags;
	v->gpr[RAX] = c->rax;

	*e = (struct exit){ .kind = EXIT_OTHER, .why = c->exit_code, .info = c->exit_info[0] };
	if (c->exit_code == EXIT_CODE_HLT) {
		v->rip++;
		e->kind = EXIT_HALT;
	} else if (c->exit_code == EXIT_CODE_INTR) {
		__asm__ volatile("sti; nop; cli");
		e->kind = EXIT_KICK;
	} else if (c->exit_code == EXIT_CODE_NPF) {
		e->kind = e->info & NPF_RESERVED ? EXIT_MISCONFIGURED : EXIT_FAULT;
		e->at = gpa(c->exit_info[1]);
		e->w = e->info & NPF_WRITE;
		e->x = e->info & NPF_FETCH;
		e->walk = e->info & NPF_GUEST_WALK;
	}
}

/* Nothing to do: between runs a VMCB is plain memory. */
static void svm_leave(struct vcpu *v)
{
}

const struct hv hv_svm = { "SVM", &mmu_npt, svm_present, svm_caps, svm_enable, svm_run, svm_leave };
