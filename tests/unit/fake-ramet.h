/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A library without KVM, for tests of what is around it: VMs that are nothing but their state,
 * which the test sets. One family at a time.
 */
#ifndef RAMET_TESTS_UNIT_FAKE_RAMET_H
#define RAMET_TESTS_UNIT_FAKE_RAMET_H

#include <pthread.h>
#include <stdatomic.h>

#include "include/ramet/ramet.h"

#define FAKE_VMS_MAX 4096
#define FAKE_TABLES  11 /* second-level tables that a clone shares at its birth */

struct ramet_vm {
	struct ramet_family *family;
	struct ramet_stat st;
	unsigned refs;
	struct ramet_watch *watches;
	void *data;
};

struct ramet_family {
	pthread_mutex_t lock;
	struct ramet_config cfg;		 /* its hooks */
	struct ramet_vm *vm[FAKE_VMS_MAX];	 /* by id; NULL: pruned */
	unsigned n, leaked;			 /* VMs; references too many at the end */
	bool silent_clones;			 /* they never become ready */
	atomic_uint counts;			 /* how often memory was counted */
	bool full;				 /* no VM takes input */
	unsigned inputs;			 /* how often ramet_console_input() was called */
	size_t typed;				 /* bytes taken */
	unsigned waits;				 /* how often ramet_wait() was called */
	void (*in_wait)(struct ramet_family *f); /* called by ramet_wait(), without the lock */
};

/* A family with a VM that has booted; the reference is the caller's. Of cfg there are only the
 * hooks. */
struct ramet_vm *fake_boot(
	struct ramet_family *f, const char *name, const struct ramet_config *cfg);
/* As if its guest had done it: `status` of a stopped one, the reason of a failed one. */
void fake_end(struct ramet_vm *vm, enum ramet_state state, int status, const char *failure);
void fake_full(struct ramet_vm *vm, bool full);
void fake_phase(struct ramet_vm *vm, uint32_t phase);

#endif
