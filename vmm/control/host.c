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

static void close_events(struct host *host)
{
	const int fd[] = { host->done, host->ending, host->leave };

	for (unsigned i = 0; i < sizeof(fd) / sizeof(fd[0]); i++)
		if (fd[i] >= 0)
			close(fd[i]);
}

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
	host->leave = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	host->listener =
		host->done < 0 || host->ending < 0 || host->leave < 0
			? err_set(err, -errno, "cannot make an eventfd: %s", strerror(errno))
			: rundir_claim(host->rundir, name, err);
	if (host->listener < 0) {
		ret = host->listener;
		close_events(host);
		close(host->rundir);
		return ret;
	}
	pthread_mutex_init(&host->lock, NULL);
	console_logs_init(&host->consoles);
	host_clients_init(host);
	return 0;
}

/* ---- what the library tells ---- */

static void vm_console(void *arg, struct ramet_vm *vm, const char *buf, size_t len)
{
	struct host *host = arg;
	struct ramet_stat st;

	ramet_vm_stat_quick(vm, &st);
	console_log_write(&host->consoles, st.id, buf, len);
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

/* Whether the process has stayed for something that nobody has stopped yet. With the lock held. */
static bool still_kept(struct host *host, uint64_t failed)
{
	bool wrong = failed;

	for (unsigned i = 0; i < host->n_ended; i++)
		wrong |= host->ended[i].exit_status > 0;
	return wrong && atomic_load(&host->kept);
}

/* The process ends with its last VM, or when what it was kept for has been stopped. Called
 * after each change of that, by the thread that made it. */
static void review(struct host *host)
{
	struct ramet_family_stat st;
	struct ramet_family *family;
	bool over;

	pthread_mutex_lock(&host->lock);
	family = host->all_ended ? host->family : NULL;
	pthread_mutex_unlock(&host->lock);
	if (!family)
		return;
	ramet_family_stat_quick(family, &st);
	pthread_mutex_lock(&host->lock);
	over = !still_kept(host, st.failed);
	pthread_mutex_unlock(&host->lock);
	if (over)
		eventfd_write(host->done, 1);
}

/* On any thread. A failed VM stays in the family until somebody stops it; of one that its guest has
 * ended there is only what is noted here. */
static void vm_ended(void *arg, struct ramet_vm *vm, uint64_t alive)
{
	struct host *host = arg;
	struct ramet_stat st;
	bool wrong;

	ramet_vm_stat_quick(vm, &st);
	wrong = st.state == RAMET_FAILED || st.exit_status > 0;
	pthread_mutex_lock(&host->lock);
	console_log_close(&host->consoles, st.id, wrong);
	if (st.state == RAMET_STOPPED && st.exit_status >= 0)
		remember(host, &st);
	if (wrong)
		host->last_wrong = st;
	if (!alive) {
		host->all_ended = true;
		if (wrong && host->keep)
			atomic_store(&host->kept, true);
	}
	pthread_mutex_unlock(&host->lock);
	review(host);
}

void host_hooks(struct host *host, struct ramet_config *cfg)
{
	cfg->console = vm_console;
	cfg->console_arg = host;
	cfg->ended = vm_ended;
	cfg->ended_arg = host;
}

void host_seen(struct host *host, struct ramet_vm *vm)
{
	struct ramet_stat st;

	ramet_vm_stat_quick(vm, &st);
	console_log_close(&host->consoles, st.id, false);
	console_log_forget(&host->consoles, st.id);
	review(host);
}

/* ---- VMs that have ended ---- */

/* With the lock held. NULL: none of that name. */
static struct ramet_stat *find_ended(struct host *host, const char *name)
{
	for (unsigned i = host->n_ended; i-- > 0;)
		if (!strcmp(host->ended[i].name, name))
			return &host->ended[i];
	return NULL;
}

bool host_ended(struct host *host, const char *name, struct ramet_stat *st)
{
	struct ramet_stat *record;

	pthread_mutex_lock(&host->lock);
	record = find_ended(host, name);
	if (record)
		*st = *record;
	pthread_mutex_unlock(&host->lock);
	return record;
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
	if (found)
		review(host);
	return found;
}

bool host_kept(struct host *host, struct ramet_stat *st)
{
	pthread_mutex_lock(&host->lock);
	*st = host->last_wrong;
	pthread_mutex_unlock(&host->lock);
	return atomic_load(&host->kept);
}

/* ---- life ---- */

static void *keeper_main(void *arg)
{
	struct host *host = arg;
	struct pollfd fds[] = {
		{ .fd = host->listener, .events = POLLIN },
		{ .fd = host->leave, .events = POLLIN },
	};

	while (!fds[1].revents) {
		if (poll(fds, 2, -1) < 0)
			continue;
		if (fds[0].revents)
			host_accept(host);
	}
	return NULL;
}

int host_start(
	struct host *host, struct ramet_family *family, struct ramet_vm *vm, struct ramet_err *err)
{
	int ret;

	host->booted = vm;
	pthread_mutex_lock(&host->lock);
	host->family = family;
	pthread_mutex_unlock(&host->lock);
	review(host); /* the VM may have failed already */
	ret = -pthread_create(&host->keeper, NULL, keeper_main, host);
	if (ret) {
		host->keeper = 0;
		return err_set(err, ret, "cannot start a thread: %s", strerror(-ret));
	}
	return 0;
}

void host_close(struct host *host)
{
	if (host->keeper) {
		eventfd_write(host->leave, 1);
		pthread_join(host->keeper, NULL);
	}
	rundir_release(host->rundir, host->name);
	close(host->listener);
	/* Clients that wait for a VM are told that it stopped. */
	if (host->family)
		ramet_family_stop(host->family);
	atomic_store(&host->closing, true);
	host_end_clients(host);
	ramet_vm_put(host->booted);
	if (host->family)
		ramet_family_destroy(host->family);
	host_clients_free(host);
	close_events(host);
	close(host->rundir);
	console_logs_free(&host->consoles);
	pthread_mutex_destroy(&host->lock);
}
