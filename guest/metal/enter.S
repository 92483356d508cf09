/* SPDX-License-Identifier: Apache-2.0 */
/* The world switch: all general registers except RSP, which the processor switches. */
#define HOST_RSP 0x6c14 /* VMCS field */

	.macro save_host
	.irp reg, rbx, rbp, r12, r13, r14, r15, rdi
	push %\reg
	.endr
	.endm
	.macro restore_host
	.irp reg, rdi, r15, r14, r13, r12, rbp, rbx
	pop %\reg
	.endr
	.endm

	/* RAX is the base address; the caller loads the guest's RAX last. */
	.macro load_guest
	mov 1 * 8(%rax), %rcx
	mov 2 * 8(%rax), %rdx
	mov 3 * 8(%rax), %rbx
	mov 5 * 8(%rax), %rbp
	mov 6 * 8(%rax), %rsi
	mov 7 * 8(%rax), %rdi
	mov 8 * 8(%rax), %r8
	mov 9 * 8(%rax), %r9
	mov 10 * 8(%rax), %r10
	mov 11 * 8(%rax), %r11
	mov 12 * 8(%rax), %r12
	mov 13 * 8(%rax), %r13
	mov 14 * 8(%rax), %r14
	mov 15 * 8(%rax), %r15
	.endm
	/* Saves into the struct whose address is on top of the stack. RAX may be overwritten. */
	.macro save_guest
	mov (%rsp), %rax
	mov %rcx, 1 * 8(%rax)
	mov %rdx, 2 * 8(%rax)
	mov %rbx, 3 * 8(%rax)
	mov %rbp, 5 * 8(%rax)
	mov %rsi, 6 * 8(%rax)
	mov %rdi, 7 * 8(%rax)
	mov %r8, 8 * 8(%rax)
	mov %r9, 9 * 8(%rax)
	mov %r10, 10 * 8(%rax)
	mov %r11, 11 * 8(%rax)
	mov %r12, 12 * 8(%rax)
	mov %r13, 13 * 8(%rax)
	mov %r14, 14 * 8(%rax)
	mov %r15, 15 * 8(%rax)
	.endm

	.text
	/* svm_enter(vcpu, vmcb): guest RAX is in the VMCB. Interrupts are on only while the guest
	 * runs: an interrupt makes the guest exit and stays pending (APM vol. 2, 15.21.1). */
	.globl svm_enter
svm_enter:
	save_host
	push %rsi
	mov %rdi, %rax
	load_guest
	clgi
	sti
	mov (%rsp), %rax
	vmrun %rax
	cli
	stgi
	add $8, %rsp
	save_guest
	restore_host
	ret

	/* vmx_enter(vcpu, launched) */
	.globl vmx_enter
vmx_enter:
	save_host
	mov $HOST_RSP, %eax
	vmwrite %rsp, %rax
	mov %rdi, %rax
	test %rsi, %rsi
	load_guest
	mov (%rax), %rax
	jnz 1f
	vmlaunch
	jmp 2f
1:	vmresume
2:	restore_host
	mov $1, %eax
	ret
	.globl vmx_exited
vmx_exited: /* HOST_RIP */
	push %rax
	mov 8(%rsp), %rax
	pop (%rax)
	save_guest
	restore_host
	xor %eax, %eax
	ret

	.section .note.GNU-stack, "", @progbits
