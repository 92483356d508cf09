/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sizes, addresses, numbers and times as text.
 *
 * Parsers accept only a whole string. They return 0, -EINVAL (wrong form) or -ERANGE (does not
 * fit), and do not write their outputs on failure.
 */
#ifndef RAMET_VMM_CLI_SIZE_H
#define RAMET_VMM_CLI_SIZE_H

#include <stddef.h>
#include <stdint.h>

#define SIZE_TEXT 24

/* Decimal digits, then at most one of K, M, G, T (either case; powers of 1024) with an optional
 * "iB" or "B". No sign, no blanks, no fraction. */
int size_parse(const char *s, uint64_t *out);
/* A comma-separated list of 1 to max sizes; *n is their number. -E2BIG: more than max. */
int size_list_parse(const char *s, uint64_t *out, unsigned max, unsigned *n);
/* An address: 0x and hexadecimal digits, or a size. */
int gpa_parse(const char *s, uint64_t *out);
/* A decimal number in [min, max]. */
int number_parse(const char *s, uint64_t min, uint64_t max, uint64_t *out);

/* Seconds, with up to three digits after a point, as milliseconds; at most `max` of these. */
int seconds_parse(const char *s, uint64_t max, uint64_t *ms);

/* "0", "64M", "1.5G": exact if possible, otherwise one digit after the point. Returns buf. */
char *size_format(uint64_t bytes, char buf[SIZE_TEXT]);
/* "870 ns", "12.3 us", "4.56 ms", "1.2 s", "3 min", "5 h". Returns buf. */
char *time_format(uint64_t ns, char buf[SIZE_TEXT]);

#endif
