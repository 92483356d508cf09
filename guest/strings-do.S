/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/strings.h"

	.text
	.globl strings_do
strings_do: /* RDI = struct strings */
	.irp reg, rbx, rbp, r12, r13, r14, r15
	push %\reg
	.endr
	push %rdi
	push STRINGS_CODE(%rdi)
	fxrstor64 STRINGS_FX_SET(%rdi)
	push STRINGS_FLAGS(%rdi)
	popf
	mov %rdi, %rax
	.set at, STRINGS_SET + 8
	.irp reg, rbx, rcx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15
	mov at(%rax), %\reg
	.set at, at + 8
	.endr
	mov STRINGS_SET(%rax), %rax
	jmp *(%rsp)

	.macro instruction name, code:vararg
	.globl strings_\name
strings_\name:
	\code
	jmp done
	.endm
	instruction movsb, rep movsb
	instruction movsl, rep movsl
	instruction insb, rep insb
	instruction outsb, rep outsb
	instruction outsl, rep outsl

done:	xchg %rax, 8(%rsp)
	.set at, STRINGS_FOUND + 8
	.irp reg, rbx, rcx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15
	mov %\reg, at(%rax)
	.set at, at + 8
	.endr
	mov 8(%rsp), %rcx
	mov %rcx, STRINGS_FOUND(%rax)
	pushf
	pop STRINGS_FLAGS(%rax)
	cld
	fxsave64 STRINGS_FX_FOUND(%rax)
	fninit
	add $16, %rsp
	.irp reg, r15, r14, r13, r12, rbp, rbx
	pop %\reg
	.endr
	ret

	.section .note.GNU-stack, "", @progbits
