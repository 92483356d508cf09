// SPDX-License-Identifier: Apache-2.0
/*
 * The fault threads: whoever touches an ABSENT span waits in the kernel (userfaultfd) until one of
 * these has filled it. They take no lock but the view's, so everyone may touch guest memory who
 * does not hold that.
 */
#include <errno.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "vmm/base/priority.h"
#include "vmm/vm/vm.h"

#define FAULT_THREADS 2

struct fault_threads {
	int quit; /* eventfd */
	unsigned n;
	pthread_t thread[FAULT_THREADS];
};

/*
 * A span of a running VM cannot be filled. It must not run on, not for one instruction: where KVM's
 * own access meets such a page, the guest is told of a fault that is none of its own.
 */
static void give_up(struct view *view, uint64_t span)
{
	struct ramet_vm *vm = view->shell->vm;
	char why[GUARD_HINT];

	view_poison(view, span);
	/* Not loaded yet: then vcpu_may_begin() sees it. Or it has moved on, and this is its past.
	 */
	if (!vm || vm->shell != view->shell)
		return;
	guard_hint(vm->family, why);
	vm_fail(vm, "it touched memory that could not be provided%s",
		why[0] ? why : ": the host is out of memory, or the family at its limit");
	shell_interrupt(view->shell);
}

static void serve(struct ramet_family *f, uint64_t address, enum touch touch)
{
	uint64_t off, span;
	unsigned page;
	struct view *view = view_find(&f->machine.arena, address, &off);
	int r = 0;

	if (!view)
		return;
	span = off >> SPAN_SHIFT;
	page = (unsigned)(off % SPAN_SIZE / PAGE_SIZE);
	pthread_mutex_lock(&view->lock);
	if (!view->source) {
		/* Frozen or idle. It may be a page that KVM fetches for a vCPU which is gone by now
		 * (async_pf), but that holds up the shell's next user: let it ask again when there
		 * is a source, or fail on close. */
		view->unserved = true;
	} else {
		if (view_state(view, span) != VIEW_POISONED && !view_has_page(view, span, page))
			r = generation_fill(view, span, (int)page, touch);
		/* Out of memory: the touch fails rather than waits for ever. */
		if (r)
			give_up(view, span);
		view_wake(view, span << SPAN_SHIFT, SPAN_SIZE);
	}
	pthread_mutex_unlock(&view->lock);
}

static void *fault_thread(void *arg)
{
	struct ramet_family *f = arg;
	struct pollfd fds[2] = {
		{ .fd = f->machine.arena.uffd, .events = POLLIN },
		{ .fd = f->faults->quit, .events = POLLIN },
	};

	/* A guest waits for what this thread does. */
	hurry_begin_at(FILL_PRIORITY);
	while (!fds[1].revents) {
		struct uffd_msg msg;

		if (read(fds[0].fd, &msg, sizeof(msg)) == sizeof(msg)) {
			if (msg.event == UFFD_EVENT_PAGEFAULT)
				serve(f, msg.arg.pagefault.address,
					msg.arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WRITE
						? TOUCH_WRITE
						: TOUCH_READ);
			continue;
		}
		/* An error (the kernel may lack memory for the call) must not end this thread:
		 * vCPUs would wait for ever. */
		if (poll(fds, 2, -1) < 0 && errno != EINTR)
			usleep(1000);
	}
	return NULL;
}

int faults_start(struct ramet_family *f)
{
	struct fault_threads *t = calloc(1, sizeof(*t));

	if (!t)
		return -ENOMEM;
	t->quit = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (t->quit < 0) {
		int e = -errno;

		free(t);
		return e;
	}
	f->faults = t;
	for (; t->n < FAULT_THREADS; t->n++) {
		int r = -pthread_create(&t->thread[t->n], NULL, fault_thread, f);

		if (r) {
			faults_stop(f);
			return r;
		}
	}
	return 0;
}

void faults_stop(struct ramet_family *f)
{
	struct fault_threads *t = f->faults;

	if (!t)
		return;
	eventfd_write(t->quit, 1);
	for (unsigned i = 0; i < t->n; i++)
		pthread_join(t->thread[i], NULL);
	close(t->quit);
	free(t);
	f->faults = NULL;
}
