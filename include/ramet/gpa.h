/* SPDX-License-Identifier: Apache-2.0 */
/* Guest-physical addresses are not to be mixed up with other numbers. */
#ifndef RAMET_GPA_H
#define RAMET_GPA_H

#include <stdint.h>

typedef struct {
	uint64_t v;
} gpa_t;

static inline gpa_t gpa(uint64_t v)
{
	return (gpa_t){ v };
}

#endif
