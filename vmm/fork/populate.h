/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a view maps before a VM runs on it: the resolved memory of a generation, as far as that
 * costs little.
 *
 * To map over a view takes time for every KVM VM of the process. So it is done ahead, if it can be
 * known from which generation the next VMs will be born: from a template, or from the VM that
 * booted and was never forked. The maker maps the frames of that generation into the shells that it
 * makes ready. A view remembers (`ahead`) which generation that was. The view
 * needs no reference to that generation: no thread touches the view until a VM is born from this
 * generation, and then the generation is alive.
 */
#ifndef RAMET_VMM_FORK_POPULATE_H
#define RAMET_VMM_FORK_POPULATE_H

#include "vmm/fork/generation.h"

/* Maps all that can be mapped at little cost. No VM runs on the view yet. */
int generation_populate(struct view *view, struct generation *g);
/*
 * Makes the view of a shell from the pool ready for a VM that is born from g. `written`: a VM still
 * writes to the frames of g. Then they must not be touched through another view. In a used shell
 * KVM might do that, to fetch a page for the shell's former VM: such a view is filled on demand.
 */
int generation_enter(struct shell *sh, struct generation *g, bool written);

/* From now on the maker maps g's memory ahead; NULL: nothing. */
void generations_expect(struct generations *set, struct generation *g);
/* Maps ahead into a blank shell. Only for the maker. Errors do no harm. */
void generations_prepare(void *set, struct shell *sh);

#endif
