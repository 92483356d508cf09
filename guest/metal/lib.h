/* SPDX-License-Identifier: Apache-2.0 */
/* Library functions for a program on the bare metal: output, exit, memory functions, arguments. */
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
/* Ends the machine. QEMU exits with status 1 if `ok`, otherwise 3; bochs just ends. */
_Noreturn void machine_end(bool ok);
__attribute__((format(printf, 1, 2))) _Noreturn void fatal(const char *format, ...);

/* The value of KEY=VALUE in the command line. */
uint64_t arg_number(const char *key, uint64_t none); /* may have K, M or G */
bool arg_is(const char *key, const char *value);

/* Compares and prints the result. in: the test; what: the checked value. */
void check(const char *in, const char *what, uint64_t is, uint64_t should_be);
extern unsigned checks_ok, checks_failed;

#endif
