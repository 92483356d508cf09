/* SPDX-License-Identifier: Apache-2.0 */
/* What a program on the bare metal lacks: output, an end, memory functions, arguments. */
#ifndef METAL_LIB_H
#define METAL_LIB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

void *memset(void *dst, int c, size_t n);
void *memcpy(void *dst, const void *src, size_t n);

void lib_init(const char *arguments);
/* %s, %u and %x (32 bits), %lu and %lx (64 bits). */
__attribute__((format(printf, 1, 2))) void print(const char *format, ...);
/* Ends the machine: exit status 1 from QEMU for `ok`, 3 if not; bochs ends either way. */
_Noreturn void machine_end(bool ok);
__attribute__((format(printf, 1, 2))) _Noreturn void fatal(const char *format, ...);

/* The value of KEY=VALUE in the command line. */
uint64_t arg_number(const char *key, uint64_t none); /* with K, M or G */
bool arg_is(const char *key, const char *value);

/* A check, reported: in what, of what, and what it was. */
void check(const char *in, const char *what, uint64_t is, uint64_t should_be);
extern unsigned checks_ok, checks_failed;

#endif
