/* SPDX-License-Identifier: Apache-2.0 */
/* A pool of shells that are ready to be used. Any thread may call. */
#ifndef RAMET_VMM_KVM_SHELL_POOL_H
#define RAMET_VMM_KVM_SHELL_POOL_H

#include <pthread.h>

#include "vmm/base/lock.h"
#include "vmm/kvm/shell.h"
#include "vmm/memory/budget.h"

struct shell_pool {
	struct machine *machine;
	const struct budget *budget;
	bool cold; /* none is kept ready: each is made when it is taken */

	struct lock lock;	       /* guards all below */
	pthread_cond_t cond;	       /* the maker has something to do */
	struct shell *ready, *used;    /* used: to be blanked, by the maker */
	struct machine_state *pattern; /* what they are preloaded with, or NULL */
	unsigned n_ready, n_used;
	unsigned want;		    /* so many are kept ready */
	unsigned n_taken;	    /* ever */
	unsigned n_returned, least; /* since the maker looked whether there are too many */
	bool quit;
	pthread_t maker;
};

/* Starts the maker, which keeps `want` shells ready; 0: none ever. 0 or -errno. */
int shell_pool_start(
	struct shell_pool *p, struct machine *machine, const struct budget *budget, unsigned want);
void shell_pool_stop(struct shell_pool *p); /* frees them all */
int shell_pool_take(struct shell_pool *p, struct shell **out);
/* Has others made for those that were taken: not while a VM stands still, which making one, with
 * its interrupts to all CPUs, would prolong. */
void shell_pool_make(struct shell_pool *p);
/* States that are to be loaded from now on are probably like this one. */
void shell_pool_pattern(struct shell_pool *p, struct machine_state *state);
/* Gives back a shell whose vCPUs are idle; NULL is fine. Its view's pages are dropped in the
 * background. */
void shell_pool_give(struct shell_pool *p, struct shell *sh);
unsigned shell_pool_ready(struct shell_pool *p);

#endif
