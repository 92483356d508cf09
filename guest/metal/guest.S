/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest: it waits for a command (hlt), executes it, and waits again. It has no stack, and uses
 * only the memory that the command names. The same bytes run in 32-bit and 64-bit mode, so there is
 * no short inc or dec.
 *
 * In:  EAX command, ESI address, ECX number of words, EDX distance between words, EBX key
 * Out: EAX number of wrong words, EDI address of the first wrong word (or the last value read); the
 *      other registers are destroyed
 */
#include "guest/metal/guest.h"

	.section .rodata
	.code32
	.balign 16
	.globl guest_start, guest_end
guest_start:
	hlt
	cmp $GUEST_WRITE, %al
	je write
	cmp $GUEST_VERIFY, %al
	je verify
	cmp $GUEST_READ, %al
	je read
	cmp $GUEST_CALL, %al
	je call
	cmp $GUEST_SPIN_WRITE, %al
	je spin_write
	cmp $GUEST_SPIN_READ, %al
	je spin_read
	mov $-1, %eax
	jmp guest_start

	/* The pattern: a word's address times an odd number, plus the key. */
	.macro pattern
	mov %esi, %ebp
	imul $GUEST_PATTERN, %ebp, %ebp
	add %ebx, %ebp
	.endm

write:	pattern
	mov %ebp, (%esi)
	add %edx, %esi
	sub $1, %ecx
	jnz write
	xor %eax, %eax
	jmp guest_start

verify:	xor %eax, %eax
	xor %edi, %edi
1:	pattern
	cmp %ebp, (%esi)
	je 2f
	test %eax, %eax
	jnz 3f
	mov %esi, %edi
3:	add $1, %eax
2:	add %edx, %esi
	sub $1, %ecx
	jnz 1b
	jmp guest_start

read:	mov (%esi), %edi
	add %edx, %esi
	sub $1, %ecx
	jnz read
	xor %eax, %eax
	jmp guest_start

	/* Runs the code at ESI, which must jump back to EDI. */
call:	mov $called - guest_start + GUEST_CODE, %edi
	jmp *%esi
called:	xor %eax, %eax
	jmp guest_start

	/* These two loop until the word at EDI is not 0. */
spin_write:
	add $1, %ebx
	mov %ebx, (%esi)
	cmpl $0, (%edi)
	je spin_write
	mov %ebx, %eax
	jmp guest_start
spin_read:
	mov (%esi), %eax
	cmpl $0, (%edi)
	je spin_read
	jmp guest_start
guest_end:

	.section .note.GNU-stack, "", @progbits
