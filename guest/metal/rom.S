/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A boot ROM for bochs, instead of a BIOS. bochs itself loads the image and the command line into
 * memory. The ROM goes from the reset vector to 32-bit protected mode, with the state that a PVH
 * loader sets up.
 */
#define IMAGE	0x100000
#define COMMAND 0x7000
#define INFO	0x6000

	.section .text, "ax"
	.code16
	.globl _start
_start:
	cli
	lgdtl %cs:gdt_ptr - _start
	mov %cr0, %eax
	or $1, %al
	mov %eax, %cr0
	ljmpl $8, $1f - _start + 0xf0000
	.code32
1:	mov $16, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %ss
	mov $INFO, %edi
	mov %edi, %ebx
	xor %eax, %eax
	mov $16, %ecx
	rep stosl
	movl $0x336ec578, (%ebx) /* hvm_start_info: magic */
	movl $COMMAND, 24(%ebx)	 /* cmdline_paddr */
	mov $IMAGE, %eax
	jmp *%eax

	.balign 8
gdt:	.quad 0
	.quad 0x00cf9b000000ffff
	.quad 0x00cf93000000ffff
gdt_ptr: .word gdt_ptr - gdt - 1
	.long gdt - _start + 0xf0000

	.code16
	.org 0xfff0
	ljmpw $0xf000, $0
	.org 0x10000
	.section .note.GNU-stack, "", @progbits
