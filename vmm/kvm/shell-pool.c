// SPDX-License-Identifier: Apache-2.0
/*
 * The family's pool of shells. The maker thread keeps `want` shells ready. It prefers to blank used
 * shells, which takes time in proportion to what their last VM touched, over making new ones.
 */
#include <assert.h>
#include <errno.h>

#include "vmm/kvm/shell-pool.h"
#include "vmm/kvm/shell-make.h"
#include "vmm/base/clock.h"
#include "vmm/base/priority.h"

/* A used shell is freed if this many more than `want` are ready. */
#define SHELLS_SPARE 64u
/* Also one of every SHELLS_LOOK returned shells is freed, if all that time more than `want` were
 * ready. */
#define SHELLS_LOOK 64u
/* If more than this many used shells wait to be blanked, a thread that needs a shell blanks one
 * itself. */
#define SHELLS_BEHIND 64u
/* If no shell has been taken or returned for IDLE_NS, the ready shells beyond `want` are freed, one
 * every FREE_NS: so a refused fork, or a burst of forks, leaves no shells for ever. */
#define IDLE_NS 1000000000u
#define FREE_NS 20000000u

static struct shell *pop(struct shell **list)
{
	struct shell *sh = *list;

	if (sh)
		*list = sh->next;
	return sh;
}

static struct shell *pop_used(struct shell_pool *p)
{
	struct shell *sh = pop(&p->used);

	p->n_used -= sh != NULL;
	return sh;
}

/* Makes a used shell like a new one: without pages and without an owner. If memory is tight, other
 * threads may wait for it, so this is done at a real-time priority. */
static int blank(struct shell_pool *p, struct shell *sh)
{
	bool tight = budget_tight(p->budget);
	struct hurry hurry;
	int r;

	if (tight)
		hurry = hurry_begin();
	r = view_close(sh->view);
	if (tight)
		hurry_end(&hurry);
	sh->owner = NULL;
	return r ? r : view_blank(sh->view);
}

/* True if a returned shell must be freed. The lock is held. */
static bool too_many(struct shell_pool *p)
{
	bool many = p->n_ready >= p->want + SHELLS_SPARE;

	if (++p->n_returned < SHELLS_LOOK)
		return many;
	many |= p->least > p->want;
	p->n_returned = 0;
	p->least = p->n_ready;
	return many;
}

/* Makes one shell ready: a used one, or a new one. Called by the maker, or by a thread that needs a
 * shell now, without the lock. Takes over the reference to the pattern. */
static struct shell *refill(
	struct shell_pool *p, struct shell *used, bool drop, struct machine_state *pattern)
{
	struct shell *sh = used;

	if (used && (drop || atomic_load(&used->broken) || blank(p, used))) {
		shell_free(used);
		sh = NULL;
	} else if (!used && shell_new(p->machine, &sh)) {
		sh = NULL;
	}
	if (sh && pattern)
		shell_preload(sh, pattern);
	machine_state_put(pattern);
	return sh;
}

/* Waits for work. True: no shell was taken or returned for that time. */
static bool wait_idle(struct shell_pool *p, uint64_t ns)
{
	struct timespec until = timespec_of(now_ns() + ns);
	unsigned taken = p->n_taken;

	/* No shell must be freed, so wait without a time limit. */
	if (p->n_ready <= p->want) {
		cond_wait(&p->cond, &p->lock);
		return false;
	}
	return cond_wait_until(&p->cond, &p->lock, &until) == ETIMEDOUT && p->n_taken == taken;
}

static void wait_for_newborns(struct shell_pool *p)
{
	struct timespec until = timespec_of(now_ns() + NEWBORNS_LOOK_NS);

	cond_wait_until(&p->cond, &p->lock, &until);
}

/* The lock is held on entry and exit. */
static void free_one(struct shell_pool *p)
{
	struct shell *sh = pop(&p->ready);

	p->n_ready -= sh != NULL;
	lock_release(&p->lock);
	shell_free(sh);
	lock_take(&p->lock);
}

static void *maker(void *arg)
{
	struct shell_pool *p = arg;
	bool idle = false;

	hurry_for_good(BACKGROUND_PRIORITY);
	lock_take(&p->lock);
	while (!p->quit) {
		struct machine_state *pattern = NULL;
		struct shell *used, *made;
		bool drop;

		/* If memory is tight, the pages of used shells are wanted at once. */
		if (newborns_first(p->newborns) && !budget_tight(p->budget)) {
			wait_for_newborns(p);
			continue;
		}
		if (!p->used && p->n_ready >= p->want) {
			idle = wait_idle(p, idle ? FREE_NS : IDLE_NS);
			if (idle && p->n_ready > p->want && !p->quit)
				free_one(p);
			continue;
		}
		idle = false;
		used = pop_used(p);
		drop = used && too_many(p);
		if (p->pattern)
			pattern = machine_state_get(p->pattern);
		lock_release(&p->lock);
		made = refill(p, used, drop, pattern);
		if (made)
			p->prepare(p->prepare_arg, made);
		hurry_rest();
		lock_take(&p->lock);
		if (made) {
			made->next = p->ready;
			p->ready = made;
			p->n_ready++;
		} else if (!used && !p->quit) {
			/* Something has run out: a thread that needs a shell tries to make one
			 * itself and gets the error. The family may have ended, and signalled,
			 * while the lock was released. */
			cond_wait(&p->cond, &p->lock);
		}
	}
	lock_release(&p->lock);
	return NULL;
}

int shell_pool_start(struct shell_pool *p, struct machine *machine, const struct budget *budget,
	const struct newborns *newborns, unsigned want)
{
	p->newborns = newborns;
	p->machine = machine;
	p->budget = budget;
	p->want = want;
	p->cold = !want;
	lock_init(&p->lock, LOCK_SHELL_POOL);
	cond_init(&p->cond);
	return -pthread_create(&p->maker, NULL, maker, p);
}

void shell_pool_end(struct shell_pool *p)
{
	lock_take(&p->lock);
	p->quit = true;
	pthread_cond_signal(&p->cond);
	lock_release(&p->lock);
}

void shell_pool_await(struct shell_pool *p)
{
	lock_may_wait_for(WAIT_END);
	pthread_join(p->maker, NULL);
}

void shell_pool_destroy(struct shell_pool *p)
{
	struct shell *sh;

	while ((sh = pop(&p->ready)) || (sh = pop(&p->used)))
		shell_free(sh);
	machine_state_put(p->pattern);
	pthread_cond_destroy(&p->cond);
	lock_destroy(&p->lock);
}

void shell_pool_pattern(struct shell_pool *p, struct machine_state *state)
{
	struct machine_state *old;

	lock_take(&p->lock);
	old = p->pattern;
	p->pattern = machine_state_get(state);
	lock_release(&p->lock);
	machine_state_put(old);
}

/* Makes a shell now, from a used one or a new one. That takes a millisecond, and a fork may need
 * thousands: this is background work, and the thread rests. */
static int make_now(struct shell_pool *p, struct shell *used, struct shell **out)
{
	struct hurry hurry = hurry_lower(BACKGROUND_PRIORITY);
	struct shell *sh = used ? refill(p, used, false, NULL) : NULL;
	int r = sh ? 0 : shell_new(p->machine, &sh);

	hurry_rest();
	hurry_end(&hurry);
	if (!r)
		*out = sh;
	return r;
}

int shell_pool_take(struct shell_pool *p, struct shell **out)
{
	struct shell *sh = NULL, *used = NULL;

	if (budget_tight(p->budget))
		return -ENOMEM;
	lock_take(&p->lock);
	p->n_taken++; /* without a signal: the maker must not make shells now */
	if (!p->cold) {
		sh = pop(&p->ready);
		p->n_ready -= sh != NULL;
		if (p->n_ready < p->least)
			p->least = p->n_ready;
		/* The maker is too slow: limit the number of used shells that wait. */
		if (!sh && p->n_used > SHELLS_BEHIND)
			used = pop_used(p);
	}
	lock_release(&p->lock);
	if (!sh)
		return make_now(p, used, out);
	*out = sh;
	return 0;
}

void shell_pool_make(struct shell_pool *p)
{
	lock_take(&p->lock);
	pthread_cond_signal(&p->cond);
	lock_release(&p->lock);
}

void shell_pool_give(struct shell_pool *p, struct shell *sh)
{
	if (!sh)
		return;
	assert(sh->state == SHELL_IDLE);
	/* The caller drops the generation now, but the maker closes the view later. */
	view_set_source(sh->view, NULL);
	sh->used = true;
	lock_take(&p->lock);
	sh->next = p->used;
	p->used = sh;
	p->n_used++;
	pthread_cond_signal(&p->cond);
	lock_release(&p->lock);
}

unsigned shell_pool_ready(struct shell_pool *p)
{
	unsigned n;

	lock_take(&p->lock);
	n = p->n_ready;
	lock_release(&p->lock);
	return n;
}

unsigned shell_pool_has(struct shell_pool *p)
{
	unsigned n;

	lock_take(&p->lock);
	n = p->cold ? 0 : p->n_ready + (p->n_used > SHELLS_BEHIND ? p->n_used - SHELLS_BEHIND : 0);
	lock_release(&p->lock);
	return n;
}
