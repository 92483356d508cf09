/* SPDX-License-Identifier: Apache-2.0 */
/* The contents of the disk, as both the test and the guest compute them. */
#ifndef TESTS_NESTED_PATTERN_H
#define TESTS_NESTED_PATTERN_H

#include <stdint.h>
#include <string.h>

#define PATTERN_BYTES (1u << 20)

/* Mixes 32 bits well; the constants are those of Murmur3's finalizer. */
static inline uint32_t pattern_word(uint32_t i)
{
	i ^= i >> 16;
	i *= 0x85ebca6bu;
	i ^= i >> 13;
	i *= 0xc2b2ae35u;
	return i ^ i >> 16;
}

static inline void pattern_fill(uint8_t *bytes)
{
	for (uint32_t i = 0; i < PATTERN_BYTES / 4; i++) {
		uint32_t word = pattern_word(i + 1);

		memcpy(bytes + 4u * i, &word, sizeof(word));
	}
}

#endif
