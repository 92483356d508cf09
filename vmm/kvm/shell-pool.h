/* SPDX-License-Identifier: Apache-2.0 */
/* A pool of shells that are ready to be used. Any thread may call these functions. */
#ifndef RAMET_VMM_KVM_SHELL_POOL_H
#define RAMET_VMM_KVM_SHELL_POOL_H

#include <pthread.h>

#include "vmm/base/lock.h"
#include "vmm/base/newborns.h"
#include "vmm/kvm/shell.h"
#include "vmm/memory/budget.h"

struct shell_pool {
	struct machine *machine;
	const struct budget *budget;
	const struct newborns *newborns; /* the maker waits for them */
	/* Called by the maker for each shell that it has made ready, without a lock. */
	void (*prepare)(void *arg, struct shell *sh);
	void *prepare_arg;
	bool cold; /* no shell is kept ready: each is made when it is taken */

	struct lock lock;	       /* guards all fields below */
	pthread_cond_t cond;	       /* signalled when the maker has work */
	struct shell *ready, *used;    /* used: the maker must blank them */
	struct machine_state *pattern; /* state that shells are preloaded with, or NULL */
	unsigned n_ready, n_used;
	unsigned want;	     /* this many are kept ready */
	unsigned n_taken;    /* number of shells ever taken */
	unsigned n_returned; /* number returned since the last check for too many */
	unsigned least;	     /* smallest n_ready since that check */
	bool quit;
	pthread_t maker;
};

/* Starts the maker, which keeps `want` shells ready; want 0: none. Returns 0 or -errno. */
int shell_pool_start(struct shell_pool *p, struct machine *machine, const struct budget *budget,
	const struct newborns *newborns, unsigned want);
/* The maker ends: it prepares no shell for VMs that will not come. */
void shell_pool_end(struct shell_pool *p);
/* Waits until it has ended. After that no view of an idle shell changes. */
void shell_pool_await(struct shell_pool *p);
/* Frees all shells. The maker has been waited for. */
void shell_pool_destroy(struct shell_pool *p);
int shell_pool_take(struct shell_pool *p, struct shell **out);
/* Starts to replace the shells that were taken. Do not call it during the pause of a VM: making a
 * shell interrupts all CPUs, which would make the pause longer. */
void shell_pool_make(struct shell_pool *p);
/* Sets the pattern: states that will be loaded from now on are probably like this one. */
void shell_pool_pattern(struct shell_pool *p, struct machine_state *state);
/* Returns a shell whose vCPUs are idle to the pool; sh may be NULL. The pages of its view are
 * dropped in the background. */
void shell_pool_give(struct shell_pool *p, struct shell *sh);
unsigned shell_pool_ready(struct shell_pool *p);
/* The number of shells that can be taken without making one. */
unsigned shell_pool_has(struct shell_pool *p);

#endif
