/* SPDX-License-Identifier: Apache-2.0 */
/* Filling views from generations. docs/fork.md lists the ways. */
#ifndef RAMET_VMM_FORK_FILL_H
#define RAMET_VMM_FORK_FILL_H

#include "vmm/fork/generation.h"

/* Fills a span of a view whose source is a generation: see struct view_source. */
int generation_fill(struct view *view, span_t span, int page, enum touch touch);
/* Fills a span, or, if page is not -1, at least this page of the span. Does nothing if that is
 * filled already. For all threads but the fault threads. 0, or -errno if it cannot be filled. */
int generation_touch(struct view *view, span_t span, int page);
/* Copies a page, if its span is PRESENT, for a VM that has not run yet and will write to the page
 * at once. To replace a page that has been read takes time for each KVM VM of the process. An error
 * does no harm. */
void generation_write_page(struct view *view, span_t span, unsigned page);
/* Gives a span with private pages of the overlay back to the heir of g, before the heir touches the
 * span, if no other VM needs it. Only for the settler. */
void generation_take_ahead(struct generation *g, span_t span);

#endif
