// SPDX-License-Identifier: Apache-2.0
/*
 * The reaper: a thread that stops VMs which their guests have ended, or which have failed. It is
 * not the settler's thread, because it takes the locks of VMs, and a thread that holds such a lock
 * may wait for the settler. Only ramet_family_destroy() waits for the reaper.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/queue.h>

#include "vmm/base/lock.h"
#include "vmm/vm/reaper.h"
#include "vmm/base/priority.h"

struct reaper {
	pthread_t thread;
	struct lock lock;
	pthread_cond_t cond;
	STAILQ_HEAD(ended_vms, ramet_vm) ended;
	atomic_uint queued, done; /* numbers of VMs, since the start */
	bool quit;
	void (*stop)(struct ramet_vm *vm);
};

/* Stops a VM. The guard may have failed it for its memory, so its memory must be freed soon. */
static void reap(struct ramet_vm *vm)
{
	struct ramet_family *f = vm->family;

	f->reaper->stop(vm);
	ramet_vm_put(vm);
	atomic_fetch_add(&f->reaper->done, 1);
	settler_retry(&f->settler);
}

static void *reaper_thread(void *arg)
{
	struct reaper *r = arg;

	hurry_for_good(HURRY_PRIORITY);
	lock_take(&r->lock);
	for (;;) {
		struct ramet_vm *vm = STAILQ_FIRST(&r->ended);

		if (vm) {
			STAILQ_REMOVE_HEAD(&r->ended, next_ended);
			lock_release(&r->lock);
			reap(vm);
			hurry_rest();
			lock_take(&r->lock);
		} else if (r->quit) {
			break;
		} else {
			cond_wait(&r->cond, &r->lock);
		}
	}
	lock_release(&r->lock);
	return NULL;
}

int reaper_start(struct ramet_family *f, void (*stop)(struct ramet_vm *vm))
{
	struct reaper *r = calloc(1, sizeof(*r));
	int e;

	if (!r)
		return -ENOMEM;
	lock_init(&r->lock, LOCK_REAPER);
	pthread_cond_init(&r->cond, NULL);
	STAILQ_INIT(&r->ended);
	r->stop = stop;
	f->reaper = r;
	e = -pthread_create(&r->thread, NULL, reaper_thread, r);
	if (e) {
		free(r);
		f->reaper = NULL;
	}
	return e;
}

void reaper_stop(struct ramet_family *f)
{
	struct reaper *r = f->reaper;

	lock_take(&r->lock);
	r->quit = true;
	pthread_cond_signal(&r->cond);
	lock_release(&r->lock);
	lock_may_wait_for(WAIT_END);
	pthread_join(r->thread, NULL);
}

void reaper_free(struct ramet_family *f)
{
	struct reaper *r = f->reaper;

	lock_destroy(&r->lock);
	pthread_cond_destroy(&r->cond);
	free(r);
	f->reaper = NULL;
}

void reaper_ended(struct ramet_vm *vm)
{
	struct reaper *r = vm->family->reaper;

	lock_take(&r->lock);
	STAILQ_INSERT_TAIL(&r->ended, vm, next_ended);
	atomic_fetch_add(&r->queued, 1);
	pthread_cond_signal(&r->cond);
	lock_release(&r->lock);
}

bool reaper_idle(void *family, unsigned *queued)
{
	const struct ramet_family *f = family;
	unsigned done = atomic_load(&f->reaper->done);

	*queued = atomic_load(&f->reaper->queued);
	return done == *queued;
}
