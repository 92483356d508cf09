/* SPDX-License-Identifier: Apache-2.0 */
/* What memory is measured in. A span is what one PTE table maps. */
#ifndef RAMET_VMM_BASE_UNITS_H
#define RAMET_VMM_BASE_UNITS_H

#define SPAN_SHIFT 21
#define SPAN_SIZE  (1ull << SPAN_SHIFT)
#define PAGE_SIZE  4096u
#define SPAN_PAGES 512u

#endif
