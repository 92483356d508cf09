/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ring-0 stub: from the VMM's entry state to ring 3, and back for traps and the timer tick.
 *
 * KVM may interpret ring 0 (about 1 us per instruction), so nothing is built at run time: GDT, IDT
 * and TSSs are static data. A descriptor has the bits of an address in several fields, and no
 * relocation can do that. But all symbols in descriptors are in the 64 KiB at IMAGE, so the low half
 * of an address is `symbol - IMAGE`, and the high half is a constant.
 *
 * Formats: SDM vol. 3, 3.4.5 (segments), 6.14.1 (64-bit gates), 7.2.3 (TSS descriptor), 7.7 (TSS).
 */
#include "guest/lib/layout.h"

#define IMAGE	  0x100000 /* RAMET_GPA_IMAGE */
#define IMAGE_MID 0x10	   /* bits 31:16 of IMAGE */

#define COM1	     0x3f8
#define DOORBELL     0x600 /* RAMET_DOORBELL and its length */
#define DOORBELL_LEN 0x60

#define TSS_BITMAP 104 /* the permission bitmap follows the fixed part of a TSS */

#define SEL_KCODE 0x08
#define SEL_UDATA (0x18 | 3)
#define SEL_UCODE (0x20 | 3)
#define SEL_TSS	  0x30 /* the TSS of vCPU 0; each descriptor has 16 bytes */

#define USER_RFLAGS 0x3202 /* IF, and IOPL 3 so that ring 3 may use ports */
#define APIC_EOI    0xfee000b0

	.section .boot, "aw"
	.balign 16
gdt:	.quad 0
	.quad 0x00af9b000000ffff /* 0x08 ring-0 code, 64 bit */
	.quad 0x00cf93000000ffff /* 0x10 ring-0 data */
	.quad 0x00cff3000000ffff /* 0x18 ring-3 data */
	.quad 0x00affb000000ffff /* 0x20 ring-3 code, 64 bit */
	.quad 0
	.altmacro
	.macro tss_descriptor n
	.word tss_end_\n - tss_\n - 1, tss_\n - IMAGE
	.byte IMAGE_MID, 0x89, 0, 0
	.quad 0
	.endm
	.macro for_each_cpu what
	.set cpu, 0
	.rept GUEST_CPUS
	\what %cpu
	.set cpu, cpu + 1
	.endr
	.endm
	for_each_cpu tss_descriptor
gdt_end:

	/* Ring 0 runs only between an interrupt and its iretq, so a small stack is enough. RSP0
	 * points to its top; the address of this vCPU's tick counter is stored there. */
	.macro tss n
	.balign 16
kstack_\n: .skip 512
kstack_top_\n:
	.quad guest_ticks + \n * GUEST_TICK_STRIDE, 0
tss_\n:	.long 0
	.quad kstack_top_\n /* RSP0 */
	.skip TSS_BITMAP - 2 - 12
	.word TSS_BITMAP
	/* A zero bit means that ring 3 may use the port: COM1 and the doorbell. IOPL 3 would be
	 * enough, but a KVM that interprets ring 0 may lose it in iretq. */
	.fill COM1 / 8, 1, 0xff
	.byte 0
	.fill (DOORBELL - COM1 - 8) / 8, 1, 0xff
	.fill DOORBELL_LEN / 8, 1, 0
	.byte 0xff
tss_end_\n:
	.endm
	for_each_cpu tss

	.balign 16
	.macro gate handler, type=0x8e00
	.word \handler - IMAGE, SEL_KCODE, \type, IMAGE_MID
	.quad 0
	.endm
	.macro trap_gate n
	gate trap_\n
	.endm
idt:	.set vec, 0
	.rept 32
	.if vec == 3
	gate service, 0xee00 /* open to ring 3 */
	.else
	trap_gate %vec
	.endif
	.set vec, vec + 1
	.endr
	.rept GUEST_TICK_VECTOR - 32
	gate stray
	.endr
	gate tick
idt_end:

gdt_ptr: .word gdt_end - gdt - 1
	.quad gdt
idt_ptr: .word idt_end - idt - 1
	.quad idt

	.section .text.entry, "ax"
	.globl _start
_start: /* RDI = device tree, RSI = vCPU index */
	lgdt gdt_ptr
	lidt idt_ptr
	mov %esi, %eax
	shl $4, %eax
	lea SEL_TSS(%rax), %ecx
	ltr %cx
	mov %esi, %eax
	inc %eax
	shl $GUEST_STACK_SHIFT, %eax
	lea guest_stacks(%rax), %rsp /* the top of this vCPU's stack */
	mov $guest_ring0_init, %eax
	test %eax, %eax
	jz 1f
	push %rdi
	push %rsi
	call *%rax
	pop %rsi
	pop %rdi
1:	lea -8(%rsp), %rcx /* the alignment that a function expects after a call */
	push $SEL_UDATA
	push %rcx
	push $USER_RFLAGS
	push $SEL_UCODE
	push $guest_start
	iretq

tick:	push %rax
	mov 48(%rsp), %rax /* the word at RSP0, above RAX and the interrupt frame (five words) */
	incq (%rax)
	mov $APIC_EOI, %eax
	movl $0, (%rax)
	pop %rax
	iretq

	/* int3: guest_ring0_service(RDI, RSI). KVM's interpreter has no `int` in 64-bit mode. */
service:
	.irp reg, rax, rcx, rdx, rsi, rdi, r8, r9, r10, r11
	push %\reg
	.endr
	mov $guest_ring0_service, %eax
	call *%rax
	.irp reg, r11, r10, r9, r8, rdi, rsi, rdx, rcx, rax
	pop %\reg
	.endr
	iretq

	/* A guest that needs ring 0 defines these. */
	.weak guest_ring0_init, guest_ring0_service

	/* Vectors that push an error code: SDM vol. 3, table 6-1. */
	.macro trap n
trap_\n:
	.if (\n == 8) || ((\n >= 10) && (\n <= 14)) || (\n == 17) || (\n == 21) || (\n == 29) || (\n == 30)
	.else
	push $0
	.endif
	push $\n
	jmp report
	.endm
	.set vec, 0
	.rept 32
	trap %vec
	.set vec, vec + 1
	.endr
stray:	push $0
	push $32
	/* Instructions that a guest expects to fault are between guest_may_fault and
	 * guest_may_fault_end. After a fault there, the guest continues at guest_faulted. */
	.weak guest_may_fault, guest_may_fault_end, guest_faulted
report:	mov 16(%rsp), %rdi /* RIP, above the vector and the error code */
	cmp $guest_may_fault, %rdi
	jb 1f
	cmp $guest_may_fault_end, %rdi
	jae 1f
	movq $guest_faulted, 16(%rsp)
	add $16, %rsp
	iretq
1:	pop %rdi
	mov 8(%rsp), %rsi /* RIP, above the error code */
	and $-16, %rsp
	call guest_trap

	.section .note.GNU-stack, "", @progbits
