/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/control/host.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/lock.h"
#include "vmm/base/priority.h"
#include "vmm/control/rundir.h"

static void close_events(struct host *host)
{
	const int fd[] = { host->done, host->ending, host->leave };

	for (unsigned i = 0; i < sizeof(fd) / sizeof(fd[0]); i++)
		if (fd[i] >= 0)
			close(fd[i]);
}

int host_init(struct host *host, const char *name, serve_fn *serve, struct ramet_err *err)
{
	int ret;

	memset(host, 0, sizeof(*host));
	if (!family_name_ok(name))
		return err_set(err, -EINVAL,
			"'%s' cannot be a family's name; use up to %u letters, digits, '-' and '_'",
			name, FAMILY_NAME_MAX);
	strcpy(host->name, name);
	host->serve = serve;
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
	lock_init(&host->lock, LOCK_HOST);
	host_clients_init(host);
	return 0;
}

/* ---- functions that the library calls ---- */

struct console_log *host_console_log(struct ramet_vm *vm)
{
	struct console_log *log = ramet_vm_data(vm), *fresh;

	if (log)
		return log;
	fresh = console_log_new();
	log = fresh ? ramet_vm_set_data(vm, fresh) : NULL;
	if (log != fresh) /* another thread was first */
		console_log_put(fresh);
	return log;
}

static void free_log(void *data)
{
	console_log_put(data);
}

static void vm_console(void *arg, struct ramet_vm *vm, const char *buf, size_t len)
{
	struct console_log *log = host_console_log(vm);

	if (log)
		console_log_write(log, buf, len);
}

/* The caller holds the lock. */
static void forget(struct host *host, struct host_ended *record)
{
	if (record->log)
		console_log_forget(record->log);
	console_log_put(record->log);
	host->n_ended--;
	memmove(record, record + 1,
		(size_t)(host->ended + host->n_ended - record) * sizeof(*record));
}

/* Adds a record, in place of the oldest one if there is no room. The caller holds the lock. */
static void remember(struct host *host, const struct ramet_stat *st, struct console_log *log)
{
	if (host->n_ended == HOST_ENDED_MAX)
		forget(host, host->ended);
	host->ended[host->n_ended++] =
		(struct host_ended){ *st, log ? console_log_get(log) : NULL };
}

/* Whether the process stays for a VM that went wrong and that no client has stopped yet. `failed`:
 * failed VMs in the family. The caller holds the lock. */
static bool still_kept(struct host *host, uint64_t failed)
{
	bool wrong = failed;

	for (unsigned i = 0; i < host->n_ended; i++)
		wrong |= host->ended[i].st.exit_status > 0;
	return wrong && atomic_load(&host->kept);
}

/* Tells the process to end if no VM is alive and it stays for none. Called after each change of
 * either, by the thread that made the change. */
static void review(struct host *host)
{
	struct ramet_family_stat st;
	struct ramet_family *family;
	bool over;

	lock_take(&host->lock);
	family = host->all_ended ? host->family : NULL;
	lock_release(&host->lock);
	if (!family)
		return;
	ramet_family_stat_quick(family, &st);
	lock_take(&host->lock);
	over = !still_kept(host, st.failed);
	lock_release(&host->lock);
	if (over)
		eventfd_write(host->done, 1);
}

/* Called on any thread. A failed VM stays in the family until a client stops it. A VM that its
 * guest has ended leaves the family, so this function keeps a record of it. */
static void vm_ended(void *arg, struct ramet_vm *vm, uint64_t alive)
{
	struct console_log *log = ramet_vm_data(vm);
	struct host *host = arg;
	struct ramet_stat st;
	bool wrong;

	ramet_vm_stat_quick(vm, &st);
	wrong = ended_wrong(&st);
	lock_take(&host->lock);
	if (log)
		console_log_close(log, wrong);
	if (st.state == RAMET_STOPPED && st.exit_status >= 0)
		remember(host, &st, log);
	if (wrong)
		host->last_wrong = st;
	if (!alive) {
		host->all_ended = true;
		if (wrong && host->keep)
			atomic_store(&host->kept, true);
	}
	lock_release(&host->lock);
	review(host);
}

void host_hooks(struct host *host, struct ramet_config *cfg)
{
	cfg->console = vm_console;
	cfg->console_arg = host;
	cfg->ended = vm_ended;
	cfg->ended_arg = host;
	cfg->data_free = free_log;
}

void host_seen(struct host *host, struct ramet_vm *vm)
{
	struct console_log *log = ramet_vm_data(vm);

	if (log)
		console_log_forget(log);
	review(host);
}

/* ---- VMs that have ended ---- */

/* NULL: no VM of that name has ended. The caller holds the lock. */
static struct host_ended *find_ended(struct host *host, const char *name)
{
	for (unsigned i = host->n_ended; i-- > 0;)
		if (!strcmp(host->ended[i].st.name, name))
			return &host->ended[i];
	return NULL;
}

bool host_ended(
	struct host *host, const char *name, struct ramet_stat *st, struct console_log **log)
{
	struct host_ended *record;

	lock_take(&host->lock);
	record = find_ended(host, name);
	if (record)
		*st = record->st;
	if (record && log)
		*log = record->log ? console_log_get(record->log) : NULL;
	lock_release(&host->lock);
	return record;
}

void host_each_ended(
	struct host *host, void (*fn)(void *arg, const struct ramet_stat *st), void *arg)
{
	lock_take(&host->lock);
	for (unsigned i = 0; i < host->n_ended; i++)
		if (host->ended[i].st.exit_status > 0)
			fn(arg, &host->ended[i].st);
	lock_release(&host->lock);
}

bool host_forget(struct host *host, const char *name)
{
	struct host_ended *found;

	lock_take(&host->lock);
	found = find_ended(host, name);
	if (found)
		forget(host, found);
	lock_release(&host->lock);
	if (found)
		review(host);
	return found;
}

bool host_kept(struct host *host, struct ramet_stat *st)
{
	lock_take(&host->lock);
	*st = host->last_wrong;
	lock_release(&host->lock);
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

	hurry_for_good(HURRY_PRIORITY);
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
	lock_take(&host->lock);
	host->family = family;
	lock_release(&host->lock);
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
		lock_may_wait_for(WAIT_END);
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
	while (host->n_ended)
		console_log_put(host->ended[--host->n_ended].log);
	lock_destroy(&host->lock);
}
