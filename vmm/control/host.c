/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/control/host.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/control/rundir.h"

#define SWEEP_MS 50 /* how late a VM that stopped by itself may be noticed */

int host_init(struct host *host, const char *name, session_fn *session, struct ramet_err *err)
{
	int ret;

	memset(host, 0, sizeof(*host));
	if (!family_name_ok(name))
		return err_set(err, -EINVAL,
			"'%s' cannot be a family's name; use up to %u letters, digits, '-' and '_'",
			name, FAMILY_NAME_MAX);
	strcpy(host->name, name);
	host->session = session;
	host->rundir = rundir_open(err);
	if (host->rundir < 0)
		return host->rundir;
	host->done = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	host->ending = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	host->listener =
		host->done < 0 || host->ending < 0
			? err_set(err, -errno, "cannot make an eventfd: %s", strerror(errno))
			: rundir_claim(host->rundir, name, err);
	if (host->listener < 0) {
		ret = host->listener;
		if (host->done >= 0)
			close(host->done);
		if (host->ending >= 0)
			close(host->ending);
		close(host->rundir);
		return ret;
	}
	pthread_mutex_init(&host->lock, NULL);
	console_logs_init(&host->consoles);
	host_clients_init(host);
	return 0;
}

void host_console(void *arg, struct ramet_vm *vm, const char *buf, size_t len)
{
	struct host *host = arg;
	struct ramet_stat st;

	ramet_vm_stat_quick(vm, &st);
	console_log_write(&host->consoles, st.id, buf, len);
}

int host_reserve(struct host *host, size_t n)
{
	size_t need;
	int ret = 0;

	pthread_mutex_lock(&host->lock);
	need = host->n_members + host->reserved + n;
	if (need > host->cap_members) {
		struct host_member *p = reallocarray(host->members, 2 * need, sizeof(*p));

		if (p) {
			host->members = p;
			host->cap_members = 2 * need;
		} else {
			ret = -ENOMEM;
		}
	}
	if (!ret)
		host->reserved += n;
	pthread_mutex_unlock(&host->lock);
	return ret;
}

void host_add(struct host *host, struct ramet_vm **vms, size_t n, size_t reserved)
{
	pthread_mutex_lock(&host->lock);
	for (size_t i = 0; i < n; i++)
		host->members[host->n_members++] = (struct host_member){ .vm = vms[i] };
	host->reserved -= reserved;
	pthread_mutex_unlock(&host->lock);
}

static bool alive(const struct ramet_stat *st)
{
	return st->state == RAMET_RUNNING || st->state == RAMET_PAUSED;
}

/* Adds a record, in place of the oldest if there are too many. */
static void remember(struct host *host, const struct ramet_stat *st)
{
	if (host->n_ended == HOST_ENDED_MAX) {
		console_log_forget(&host->consoles, host->ended[0].id);
		host->n_ended--;
		memmove(host->ended, host->ended + 1, host->n_ended * sizeof(*st));
	}
	host->ended[host->n_ended++] = *st;
}

/* What the sweep found. */
struct found {
	size_t live;
	size_t kept; /* VMs that went wrong and have not been stopped since */
	bool wrong;  /* one of those that have ended since the last sweep */
};

static void note_end(struct host *host, const struct ramet_stat *st, struct found *found)
{
	bool wrong = st->state == RAMET_FAILED || st->exit_status > 0;

	console_log_close(&host->consoles, st->id, wrong);
	if (st->state == RAMET_STOPPED && st->exit_status >= 0)
		remember(host, st);
	if (wrong) {
		host->last_wrong = *st;
		found->wrong = true;
	}
}

/* Lets go of VMs that have stopped. A failed one stays a member until somebody stops it. */
static struct found sweep_members(struct host *host)
{
	struct found found = { 0 };
	size_t left = 0;

	pthread_mutex_lock(&host->lock);
	for (size_t i = 0; i < host->n_members; i++) {
		struct host_member m = host->members[i];
		struct ramet_stat st;

		ramet_vm_stat_quick(m.vm, &st);
		found.live += alive(&st);
		found.kept += st.state == RAMET_FAILED;
		if (!alive(&st) && !m.ended)
			note_end(host, &st, &found);
		else if (st.state == RAMET_STOPPED)
			console_log_forget(&host->consoles, st.id);
		m.ended = !alive(&st);
		if (st.state == RAMET_STOPPED)
			ramet_vm_put(m.vm);
		else
			host->members[left++] = m;
	}
	host->n_members = left;
	for (unsigned i = 0; i < host->n_ended; i++)
		found.kept += host->ended[i].exit_status > 0;
	pthread_mutex_unlock(&host->lock);
	return found;
}

/* The process ends with its last VM. Clones that are being made are in the family before they are
 * among the members, and before their parent can stop: it is the family that is asked. */
static void sweep(struct host *host)
{
	struct found found = sweep_members(host);
	struct ramet_family_stat st;

	if (found.live)
		return;
	ramet_family_stat_quick(host->family, &st);
	if (st.vms)
		return;
	if (found.wrong && host->keep)
		atomic_store(&host->kept, true);
	if (!found.kept || !atomic_load(&host->kept))
		eventfd_write(host->done, 1);
}

/* With the lock held. NULL: none of that name. */
static struct ramet_stat *find_ended(struct host *host, const char *name)
{
	for (unsigned i = host->n_ended; i-- > 0;)
		if (!strcmp(host->ended[i].name, name))
			return &host->ended[i];
	return NULL;
}

/* One that the next sweep will find. With the lock held. */
static bool has_just_ended(struct host *host, const char *name, struct ramet_stat *st)
{
	for (size_t i = 0; i < host->n_members; i++) {
		ramet_vm_stat_quick(host->members[i].vm, st);
		if (!strcmp(st->name, name))
			return st->state == RAMET_STOPPED && st->exit_status >= 0;
	}
	return false;
}

bool host_ended(struct host *host, const char *name, struct ramet_stat *st)
{
	struct ramet_stat *record;
	bool found;

	pthread_mutex_lock(&host->lock);
	record = find_ended(host, name);
	if (record)
		*st = *record;
	found = record || has_just_ended(host, name, st);
	pthread_mutex_unlock(&host->lock);
	return found;
}

void host_each_ended(
	struct host *host, void (*fn)(void *arg, const struct ramet_stat *st), void *arg)
{
	pthread_mutex_lock(&host->lock);
	for (unsigned i = 0; i < host->n_ended; i++)
		if (host->ended[i].exit_status > 0)
			fn(arg, &host->ended[i]);
	pthread_mutex_unlock(&host->lock);
}

bool host_forget(struct host *host, const char *name)
{
	struct ramet_stat *found;

	pthread_mutex_lock(&host->lock);
	found = find_ended(host, name);
	if (found) {
		console_log_forget(&host->consoles, found->id);
		host->n_ended--;
		memmove(found, found + 1,
			(size_t)(host->ended + host->n_ended - found) * sizeof(*found));
	}
	pthread_mutex_unlock(&host->lock);
	return found;
}

bool host_kept(struct host *host, struct ramet_stat *st)
{
	pthread_mutex_lock(&host->lock);
	*st = host->last_wrong;
	pthread_mutex_unlock(&host->lock);
	return atomic_load(&host->kept);
}

static void *keeper_main(void *arg)
{
	struct host *host = arg;
	struct pollfd p = { .fd = host->listener, .events = POLLIN };

	while (!atomic_load(&host->leaving)) {
		if (poll(&p, 1, SWEEP_MS) > 0)
			host_accept(host);
		sweep(host);
	}
	return NULL;
}

int host_start(
	struct host *host, struct ramet_family *family, struct ramet_vm *vm, struct ramet_err *err)
{
	int ret;

	host->family = family;
	host->booted = vm;
	ramet_vm_get(vm);
	ret = host_reserve(host, 1);
	if (ret) {
		ramet_vm_put(vm);
		return err_set(err, ret, "out of memory");
	}
	host_add(host, &vm, 1, 1);
	ret = -pthread_create(&host->keeper, NULL, keeper_main, host);
	if (ret) {
		host->keeper = 0;
		return err_set(err, ret, "cannot start a thread: %s", strerror(-ret));
	}
	return 0;
}

/* A reference to a member, while clients may still add some; NULL past the last. */
static struct ramet_vm *member(struct host *host, size_t i)
{
	struct ramet_vm *vm = NULL;

	pthread_mutex_lock(&host->lock);
	if (i < host->n_members)
		vm = ramet_vm_get(host->members[i].vm);
	pthread_mutex_unlock(&host->lock);
	return vm;
}

/* Whoever waits for a VM is told that it stopped. */
static void stop_members(struct host *host)
{
	struct ramet_stat st;
	struct ramet_vm *vm;

	for (size_t i = 0; (vm = member(host, i)); i++) {
		ramet_stop(vm, NULL);
		ramet_vm_stat_quick(vm, &st);
		console_log_close(&host->consoles, st.id, false);
		ramet_vm_put(vm);
	}
}

void host_close(struct host *host)
{
	if (host->keeper) {
		atomic_store(&host->leaving, true);
		pthread_join(host->keeper, NULL);
	}
	rundir_release(host->rundir, host->name);
	close(host->listener);
	stop_members(host);
	atomic_store(&host->closing, true);
	host_end_clients(host);
	for (size_t i = 0; i < host->n_members; i++)
		ramet_vm_put(host->members[i].vm);
	free(host->members);
	ramet_vm_put(host->booted);
	if (host->family)
		ramet_family_destroy(host->family);
	host_clients_free(host);
	close(host->done);
	close(host->ending);
	close(host->rundir);
	console_logs_free(&host->consoles);
	pthread_mutex_destroy(&host->lock);
}
