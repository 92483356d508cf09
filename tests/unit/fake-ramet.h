/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A fake of the library, without KVM, for tests of the code that uses it. A fake VM has only a
 * state, which the test sets. There is one family at a time.
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
	struct ramet_config cfg;	   /* its hooks */
	struct ramet_vm *vm[FAKE_VMS_MAX]; /* by id; NULL: pruned */
	unsigned n;			   /* number of VMs */
	unsigned leaked;		   /* number of references that were not put at the end */
	bool silent_clones;		   /* clones never become ready */
	atomic_uint counts;		   /* how often memory was counted */
	bool full;			   /* no VM takes input */
	unsigned inputs;		   /* how often ramet_console_input() was called */
	size_t typed;			   /* number of bytes taken */
	unsigned waits;			   /* how often ramet_wait() was called */
	void (*in_wait)(struct ramet_family *f); /* called by ramet_wait(), without the lock */
};

/* Makes a family with a VM that has booted. The caller gets a reference to the VM. Only the hooks
 * of cfg are used. */
struct ramet_vm *fake_boot(
	struct ramet_family *f, const char *name, const struct ramet_config *cfg);
/* Ends a VM as its guest would: with `status`, or, if it failed, with a reason. */
void fake_end(struct ramet_vm *vm, enum ramet_state state, int status, const char *failure);
void fake_full(struct ramet_vm *vm, bool full);
void fake_phase(struct ramet_vm *vm, uint32_t phase);

#endif
