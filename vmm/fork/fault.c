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
	pthread_mutex_lock(&view->lock);
	if (!view->source) {
		/* Frozen or idle. It may be a page that KVM fetches for a vCPU which is gone by now
		 * (async_pf), but that holds up the shell's next user: let it ask again when there
		 * is a source, or fail on close. */
		view->unserved = true;
	} else {
		if (view_state(view, span) != VIEW_POISONED && !view_has_page(view, span, page))
			r = view->source->fill(view, span, (int)page, touch);
		/* Out of memory: the touch fails rather than waits for ever. */
		if (r) {
			view_poison(view, span);
			view->source->lost(view);
		}
		view_wake(view, span_off(span), SPAN_SIZE);
	}
	pthread_mutex_unlock(&view->lock);
}

static void *fault_thread(void *arg)
{
	struct faults *f = arg;
	struct pollfd fds[2] = {
		{ .fd = f->arena->uffd, .events = POLLIN },
		{ .fd = f->quit, .events = POLLIN },
	};

	/* A guest waits for what this thread does. */
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
		 * vCPUs would wait for ever. */
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
	eventfd_write(f->quit, 1);
	for (unsigned i = 0; i < f->n; i++)
		pthread_join(f->thread[i], NULL);
	close(f->quit);
}
