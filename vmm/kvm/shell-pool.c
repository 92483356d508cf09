// SPDX-License-Identifier: Apache-2.0
/*
 * The family's pool of shells. The maker thread keeps as many ready as are wanted, rather by
 * blanking used ones (the cost of what their last VM touched) than by making new ones.
 */
#include <errno.h>

#include "vmm/base/clock.h"
#include "vmm/base/priority.h"
#include "vmm/vm/vm.h"

/* A used shell is dropped for good when this many are ready beyond what is wanted. */
#define SHELLS_SPARE 64u
/* Also, of every SHELLS_LOOK shells that come back one is freed, if more than are wanted were ready
 * all that time. */
#define SHELLS_LOOK 64u
/* When more than this many wait to be blanked, a thread that needs a shell blanks one itself. */
#define SHELLS_BEHIND 64u
/* When no shell has been taken or given back for IDLE_NS, those beyond what is wanted are freed,
 * one every FREE_NS: a fork that was refused, or a burst that is over, leaves none for good. */
#define IDLE_NS 1000000000u
#define FREE_NS 20000000u

static struct shell *pop(struct shell **list)
{
	struct shell *sh = *list;

	if (sh)
		*list = sh->next;
	return sh;
}

static struct shell *pop_used(struct ramet_family *f)
{
	struct shell *sh = pop(&f->used_shells);

	f->n_used -= sh != NULL;
	return sh;
}

/* Makes a used shell as good as new: no page, no vCPU running, nobody's. Others may wait for the
 * memory. */
static int blank(struct ramet_family *f, struct shell *sh)
{
	bool tight = guard_tight(f);
	struct hurry hurry;
	int r;

	if (tight)
		hurry = hurry_begin();
	r = view_close(sh->view);
	if (tight)
		hurry_end(&hurry);
	sh->vm = NULL;
	return r ? r : view_blank(sh->view);
}

/* Whether a shell that has been given back is to go. The lock is held. */
static bool too_many(struct ramet_family *f)
{
	bool many = f->n_shells >= f->want_shells + SHELLS_SPARE;

	if (++f->n_returned < SHELLS_LOOK)
		return many;
	many |= f->least_shells > f->want_shells;
	f->n_returned = 0;
	f->least_shells = f->n_shells;
	return many;
}

/* One step of the maker, or of who cannot wait for it, outside the lock. Takes over the reference
 * to the pattern. */
static struct shell *refill(
	struct ramet_family *f, struct shell *used, bool drop, struct machine_state *pattern)
{
	struct shell *sh = used;

	if (used && (drop || atomic_load(&used->broken) || blank(f, used))) {
		shell_free(used);
		sh = NULL;
	} else if (!used && shell_new(&f->machine, &sh)) {
		sh = NULL;
	}
	if (sh && pattern)
		shell_preload(sh, pattern);
	machine_state_put(pattern);
	return sh;
}

/* Waits for something to do. True: nobody took or gave back a shell for that long. */
static bool wait_idle(struct ramet_family *f, uint64_t ns)
{
	struct timespec until = timespec_of(now_ns() + ns);
	unsigned taken = f->n_taken;

	/* What is wanted stays: no need to look again. */
	if (f->n_shells <= f->want_shells) {
		pthread_cond_wait(&f->shells_cond, &f->shells_lock);
		return false;
	}
	return pthread_cond_timedwait(&f->shells_cond, &f->shells_lock, &until) == ETIMEDOUT &&
	       f->n_taken == taken;
}

/* The lock is held on entry and exit. */
static void free_one(struct ramet_family *f)
{
	struct shell *sh = pop(&f->shells);

	f->n_shells -= sh != NULL;
	pthread_mutex_unlock(&f->shells_lock);
	shell_free(sh);
	pthread_mutex_lock(&f->shells_lock);
}

static void *maker(void *arg)
{
	struct ramet_family *f = arg;
	bool idle = false;

	pthread_mutex_lock(&f->shells_lock);
	while (!f->shells_quit) {
		struct machine_state *pattern = NULL;
		struct shell *used, *made;
		bool drop;

		if (!f->used_shells && f->n_shells >= f->want_shells) {
			idle = wait_idle(f, idle ? FREE_NS : IDLE_NS);
			if (idle && f->n_shells > f->want_shells && !f->shells_quit)
				free_one(f);
			continue;
		}
		idle = false;
		used = pop_used(f);
		drop = used && too_many(f);
		if (f->pattern)
			pattern = machine_state_get(f->pattern);
		pthread_mutex_unlock(&f->shells_lock);
		made = refill(f, used, drop, pattern);
		pthread_mutex_lock(&f->shells_lock);
		if (made) {
			made->next = f->shells;
			f->shells = made;
			f->n_shells++;
		} else if (!used && !f->shells_quit) {
			/* Out of something: whoever needs a shell makes one itself and learns what.
			 * The family may have ended while the lock was away, and signalled then. */
			pthread_cond_wait(&f->shells_cond, &f->shells_lock);
		}
	}
	pthread_mutex_unlock(&f->shells_lock);
	return NULL;
}

int shells_start(struct ramet_family *f)
{
	pthread_mutex_init(&f->shells_lock, NULL);
	cond_init(&f->shells_cond);
	return -pthread_create(&f->maker, NULL, maker, f);
}

void shells_stop(struct ramet_family *f)
{
	struct shell *sh;

	pthread_mutex_lock(&f->shells_lock);
	f->shells_quit = true;
	pthread_cond_signal(&f->shells_cond);
	pthread_mutex_unlock(&f->shells_lock);
	pthread_join(f->maker, NULL);
	while ((sh = pop(&f->shells)))
		shell_free(sh);
	while ((sh = pop(&f->used_shells)))
		shell_free(sh);
	machine_state_put(f->pattern);
	pthread_cond_destroy(&f->shells_cond);
	pthread_mutex_destroy(&f->shells_lock);
}

void shells_pattern(struct ramet_family *f, struct machine_state *state)
{
	struct machine_state *old;

	pthread_mutex_lock(&f->shells_lock);
	old = f->pattern;
	f->pattern = machine_state_get(state);
	pthread_mutex_unlock(&f->shells_lock);
	machine_state_put(old);
}

/* A shell that is made now, or out of a used one. That takes a millisecond, and a fork may need
 * thousands: not at a real-time priority, which would keep others from the CPU for seconds. */
static int make_now(struct ramet_family *f, struct shell *used, struct shell **out)
{
	struct hurry hurry = hurry_pause();
	struct shell *sh = used ? refill(f, used, false, NULL) : NULL;
	int r = sh ? 0 : shell_new(&f->machine, &sh);

	hurry_end(&hurry);
	if (!r)
		*out = sh;
	return r;
}

int shells_take(struct ramet_family *f, struct shell **out)
{
	struct shell *sh = NULL, *used = NULL;

	if (guard_tight(f))
		return -ENOMEM;
	pthread_mutex_lock(&f->shells_lock);
	f->n_taken++; /* the maker sees it when it wakes up: it must not make shells now */
	if (!f->cfg.cold) {
		sh = pop(&f->shells);
		f->n_shells -= sh != NULL;
		if (f->n_shells < f->least_shells)
			f->least_shells = f->n_shells;
		/* The maker cannot keep up. It must not fall behind without limit. */
		if (!sh && f->n_used > SHELLS_BEHIND)
			used = pop_used(f);
	}
	pthread_mutex_unlock(&f->shells_lock);
	if (!sh)
		return make_now(f, used, out);
	*out = sh;
	return 0;
}

void shells_make(struct ramet_family *f)
{
	pthread_mutex_lock(&f->shells_lock);
	pthread_cond_signal(&f->shells_cond);
	pthread_mutex_unlock(&f->shells_lock);
}

void shells_give(struct ramet_family *f, struct shell *sh)
{
	if (!sh)
		return;
	/* The caller lets go of the generation now; the maker closes the view some time. */
	view_set_source(sh->view, NULL);
	sh->used = true;
	pthread_mutex_lock(&f->shells_lock);
	sh->next = f->used_shells;
	f->used_shells = sh;
	f->n_used++;
	pthread_cond_signal(&f->shells_cond);
	pthread_mutex_unlock(&f->shells_lock);
}
