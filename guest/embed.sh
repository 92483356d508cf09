#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Writes an assembly file that holds guest images: embed.sh OUTPUT IMAGE.elf...
set -eu
out=$1
shift
{
	echo '/* Made by guest/embed.sh. */'
	echo '	.section .note.GNU-stack, "", @progbits'
	echo '	.section .rodata'
	for image; do
		name=$(basename "$image" .elf)
		printf '\t.balign 16\n'
		printf '\t.globl guest_%s_start, guest_%s_end\n' "$name" "$name"
		printf 'guest_%s_start: .incbin "%s"\n' "$name" "$(realpath "$image")"
		printf 'guest_%s_end:\n' "$name"
	done
} >"$out"
