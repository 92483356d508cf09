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
/* Gives a span with private pages of the overlay back to the heir of g, before the heir touches the
 * span, if no other VM needs it. Only for the settler. */
void generation_take_ahead(struct generation *g, span_t span);
/* Maps all that can be mapped at little cost. No VM runs on the view yet. */
int generation_populate(struct view *view, struct generation *g);

#endif
