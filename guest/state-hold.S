/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/state.h"

#define DOORBELL_GENERATION 0x624
#define SPIN		    20000 /* rounds without an exit between two looks */


	.text
	.globl state_hold
state_hold: /* RDI = struct state */
	.irp reg, rbx, rbp, r12, r13, r14, r15
	push %\reg
	.endr
	push %rdi
	mov %rdi, %rax
	mov STATE_XCR0(%rax), %rcx
	test %rcx, %rcx
	jz 1f
	mov %rcx, %rdx
	xchg %rax, %rcx
	shr $32, %rdx
	xrstor64 STATE_X_SET(%rcx)
	mov %rcx, %rax
	jmp 2f
1:	fxrstor64 STATE_X_SET(%rax)
2:	.set at, STATE_SET
	.irp reg, rbx, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15
	mov at(%rax), %\reg
	.set at, at + 8
	.endr
	std
	/* From here on the loop uses RAX, RCX, RDX and the arithmetic flags; all other registers keep
	 * their values. */
3:	mov $SPIN, %ecx
4:	dec %ecx
	jnz 4b
	rdtsc
	shl $32, %rdx
	or %rdx, %rax
	mov (%rsp), %rcx
	mov %rax, STATE_TSC(%rcx)
	mov $DOORBELL_GENERATION, %edx
	in %dx, %eax
	cmp STATE_LIFE(%rcx), %eax
	je 3b
	/* A new generation. */
	mov %rcx, %rax
	.set at, STATE_FOUND
	.irp reg, rbx, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15
	mov %\reg, at(%rax)
	.set at, at + 8
	.endr
	pushf
	pop STATE_FLAGS(%rax)
	cld
	mov STATE_XCR0(%rax), %rcx
	test %rcx, %rcx
	jz 5f
	mov %rcx, %rdx
	xchg %rax, %rcx
	shr $32, %rdx
	xsave64 STATE_X_FOUND(%rcx)
	jmp 6f
5:	fxsave64 STATE_X_FOUND(%rax)
6:	fninit
	pop %rdi
	.irp reg, r15, r14, r13, r12, rbp, rbx
	pop %\reg
	.endr
	ret

	/* Called in ring 0. These instructions may fault; entry.S then makes the function return
	 * -1. */
	.globl state_rdmsr, state_wrmsr, state_wrcr4
	.globl guest_may_fault, guest_may_fault_end, guest_faulted
state_rdmsr: /* EDI = MSR, RSI = address for the value */
	mov %edi, %ecx
	jmp 1f
state_wrmsr: /* EDI = MSR, RSI = value */
	mov %edi, %ecx
	mov %esi, %eax
	mov %rsi, %rdx
	shr $32, %rdx
	jmp 2f
state_wrcr4: /* RDI = value */
	jmp 3f
guest_may_fault:
1:	rdmsr
	shl $32, %rdx
	or %rdx, %rax
	mov %rax, (%rsi)
	xor %eax, %eax
	ret
2:	wrmsr
	xor %eax, %eax
	ret
3:	mov %rdi, %cr4
	xor %eax, %eax
	ret
guest_may_fault_end:
guest_faulted:
	mov $-1, %eax
	ret

	.section .note.GNU-stack, "", @progbits
