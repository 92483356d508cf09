// SPDX-License-Identifier: Apache-2.0
/*
 * The fault threads. A thread that touches an ABSENT span waits in the kernel (userfaultfd) until a
 * fault thread has filled the span. A fault thread takes only view.lock and locks that come after
 * it in docs/locking.md: a thread that holds none of these may touch guest memory.
 */
#include <errno.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "vmm/fork/fault.h"
#include "vmm/base/priority.h"

static void serve(struct faults *f, uint64_t address, enum touch touch)
{
	ram_off_t off;
	span_t span;
	unsigned page;
	struct view *view = view_find(f->arena, address, &off);
	int r = 0;

	if (!view)
		return;
	span = span_of(off);
	page = page_of(off);
	lock_take(&view->lock);
	if (!view->source) {
		/* The view is frozen or idle. The touch may come from KVM, which fetches a page
		 * (async_pf) for a vCPU that is gone by now. The shell's next user waits for this
		 * thread of KVM's, so the touch must end: it is repeated when the view has a
		 * source, and fails when the view is closed. */
		view->unserved = true;
	} else {
		if (view_state(view, span) != VIEW_POISONED && !view_has_page(view, span, page))
			r = view->source->fill(view, span, (int)page, touch);
		/* Out of memory: the touch must fail, otherwise it would wait for ever. */
		if (r) {
			view_poison(view, span);
			view->source->lost(view);
		}
		view_wake(view, span_off(span), SPAN_SIZE);
	}
	lock_release(&view->lock);
}

static void *fault_thread(void *arg)
{
	struct faults *f = arg;
	struct pollfd fds[2] = {
		{ .fd = f->arena->uffd, .events = POLLIN },
		{ .fd = f->quit, .events = POLLIN },
	};

	/* Guests wait for this thread. */
	hurry_for_good(FILL_PRIORITY);
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
		 * without it vCPUs would wait for ever. */
		if (poll(fds, 2, -1) < 0 && errno != EINTR)
			usleep(1000);
	}
	return NULL;
}

int faults_start(struct faults *f, struct view_arena *arena)
{
	f->arena = arena;
	f->n = 0;
	f->quit = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (f->quit < 0)
		return -errno;
	for (; f->n < FAULT_THREADS; f->n++) {
		int r = -pthread_create(&f->thread[f->n], NULL, fault_thread, f);

		if (r) {
			faults_stop(f);
			return r;
		}
	}
	return 0;
}

void faults_stop(struct faults *f)
{
	lock_may_wait_for(WAIT_END);
	eventfd_write(f->quit, 1);
	for (unsigned i = 0; i < f->n; i++)
		pthread_join(f->thread[i], NULL);
	close(f->quit);
}
