/* SPDX-License-Identifier: Apache-2.0 */
/* The fault threads fill the spans that vCPUs and other threads touch. */
#ifndef RAMET_VMM_FORK_FAULT_H
#define RAMET_VMM_FORK_FAULT_H

#include <pthread.h>

#include "vmm/memory/view.h"

#define FAULT_THREADS 2

struct faults {
	struct view_arena *arena;
	int quit; /* eventfd */
	unsigned n;
	pthread_t thread[FAULT_THREADS];
};

/* 0 or -errno. */
int faults_start(struct faults *f, struct view_arena *arena);
void faults_stop(struct faults *f);

#endif
