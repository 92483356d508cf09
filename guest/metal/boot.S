/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the loader's 32-bit protected mode to C in 64-bit mode, on all processors.
 *
 * Loaders: QEMU (PVH: EBX = hvm_start_info, Xen's include/public/arch-x86/hvm/start_info.h), and
 * rom.S, which sets up the same state.
 */
#include "guest/metal/boot.h"

#define CR0_BITS  0x80010031 /* PG, WP, NE (VMX needs it), ET, PE */
#define CR4_BITS  0x20	     /* PAE */
#define EFER	  0xc0000080
#define EFER_BITS 0x900 /* NXE, LME */
#define APIC_EOI  0xfee000b0

	.section .note.pvh, "a", @note
	.balign 4
	.long 4, 4, 18 /* XEN_ELFNOTE_PHYS32_ENTRY */
	.asciz "Xen"
	.long start32

	.section .text.start, "ax"
	.code32
	.globl start32
start32:
	cli
	cld
	mov $bss_start, %edi
	mov $image_end, %ecx
	sub %edi, %ecx
	shr $2, %ecx
	xor %eax, %eax
	rep stosl

	/* Identity-map the first 4 GiB in pages of 2 MiB. */
	movl $pdpt + 3, pml4
	mov $pdpt, %edi
	mov $pd + 3, %eax
1:	mov %eax, (%edi)
	add $4096, %eax
	add $8, %edi
	cmp $pdpt + 4 * 8, %edi
	jb 1b
	mov $pd, %edi
	mov $0x83, %eax
1:	mov %eax, (%edi)
	add $0x200000, %eax
	add $8, %edi
	cmp $pd + 4 * 4096, %edi
	jb 1b

	mov $boot_stack + BOOT_STACK, %esp
	mov %ebx, %edi
	mov $metal_main, %ebx

	/* Calls the function EBX in 64-bit mode with EDI as its argument, on the present stack. */
enter64:
	mov $pml4, %eax
	mov %eax, %cr3
	mov $CR4_BITS, %eax
	mov %eax, %cr4
	mov $EFER, %ecx
	rdmsr
	or $EFER_BITS, %eax
	wrmsr
	mov $CR0_BITS, %eax
	mov %eax, %cr0
	lgdt gdt_ptr
	ljmp $SEL_CODE, $1f
	.code64
1:	mov $SEL_DATA, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %ss
	mov %eax, %fs
	mov %eax, %gs
	mov $SEL_TSS, %eax
	/* VMX needs a TSS, but nothing is read from it. The second processor loads the same one, so
	 * clear the busy bit that ltr sets in its descriptor. */
	andb $~2, gdt + SEL_TSS + 5
	ltr %ax
	mov %ebx, %ebx
	mov %edi, %edi
	call *%rbx
2:	cli
	hlt
	jmp 2b

	/* Copied to AP_START: another processor starts there in real mode (SDM vol. 3, 9.4.4). */
	.code16
	.globl ap_start, ap_start_end
ap_start:
	cli
	xor %ax, %ax
	mov %ax, %ds
	lgdtl AP_START + ap_gdt_ptr - ap_start
	mov %cr0, %eax
	or $1, %al
	mov %eax, %cr0
	ljmpl $SEL_CODE32, $ap_start32
	.balign 4
ap_gdt_ptr:
	.word gdt_end - gdt - 1
	.long gdt
ap_start_end:

	.code32
ap_start32:
	mov $SEL_DATA, %eax
	mov %eax, %ds
	mov %eax, %ss
	mov $ap_stack + BOOT_STACK, %esp
	mov $ap_main, %ebx
	jmp enter64

	.code64
	.text
	/* Exceptions end the program; vectors that push an error code: SDM vol. 3, table 6-1. */
	.altmacro
	.macro trap n
	.balign 16
trap_\n:
	.if (\n == 8) || ((\n >= 10) && (\n <= 14)) || (\n == 17) || (\n == 21)
	.else
	push $0
	.endif
	push $\n
	jmp trapped
	.endm
	.balign 16
	.globl trap_stubs
trap_stubs:
	.set vec, 0
	.rept 32
	trap %vec
	.set vec, vec + 1
	.endr
trapped:
	pop %rdi
	pop %rsi
	mov (%rsp), %rdx
	and $-16, %rsp
	call trap

	/* The interrupt that makes a processor leave its guest. The handler has nothing else to do. */
	.globl irq_stub
irq_stub:
	push %rax
	mov $APIC_EOI, %eax
	movl $0, (%rax)
	pop %rax
	iretq

	.data
	.balign 16
	.globl gdt
gdt:	.quad 0
	.quad 0x00af9b000000ffff /* SEL_CODE */
	.quad 0x00cf93000000ffff /* SEL_DATA */
	.quad 0x00cf9b000000ffff /* SEL_CODE32 */
	.quad 0x0000890000000067, 0 /* SEL_TSS, at 0 */
gdt_end:
gdt_ptr: .word gdt_end - gdt - 1
	.quad gdt

	.bss
	.balign 4096
	.globl pdpt
pml4:	.skip 4096
pdpt:	.skip 4096
pd:	.skip 4 * 4096
boot_stack: .skip BOOT_STACK
ap_stack: .skip BOOT_STACK

	.section .note.GNU-stack, "", @progbits
