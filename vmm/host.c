/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/host.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "vmm/machine.h"
#include "vmm/rundir.h"

#define SWEEP_MS 50 /* how late a VM that stopped by itself may be noticed */

int host_init(struct host *host, const char *name, struct ramet_err *err)
{
	int ret;

	memset(host, 0, sizeof(*host));
	if (!family_name_ok(name))
		return err_set(err, -EINVAL,
			"'%s' cannot be a family's name; use up to %u letters, digits, '-' and '_'",
			name, FAMILY_NAME_MAX);
	strcpy(host->name, name);
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
		struct ramet_vm **p = reallocarray(host->members, 2 * need, sizeof(*p));

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
	memcpy(host->members + host->n_members, vms, n * sizeof(*vms));
	host->n_members += n;
	host->reserved -= reserved;
	pthread_mutex_unlock(&host->lock);
}

static bool alive(const struct ramet_stat *st)
{
	return st->state == RAMET_RUNNING || st->state == RAMET_PAUSED;
}

/* Lets go of VMs that have stopped. A failed one is kept, so that it can be asked why. Returns how
 * many live. */
static size_t sweep_members(struct host *host)
{
	size_t live = 0, kept = 0;

	pthread_mutex_lock(&host->lock);
	for (size_t i = 0; i < host->n_members; i++) {
		struct ramet_vm *vm = host->members[i];
		struct ramet_stat st;

		ramet_vm_stat_quick(vm, &st);
		live += alive(&st);
		if (!alive(&st))
			console_log_close(&host->consoles, st.id);
		if (st.state == RAMET_STOPPED)
			ramet_vm_put(vm);
		else
			host->members[kept++] = vm;
	}
	host->n_members = kept;
	pthread_mutex_unlock(&host->lock);
	return live;
}

/* The process ends with its last VM. Clones that are being made are in the family before they are
 * among the members, and before their parent can stop: it is the family that is asked. */
static void sweep(struct host *host)
{
	struct ramet_family_stat st;

	if (sweep_members(host))
		return;
	ramet_family_stat_quick(host->family, &st);
	if (!st.vms)
		eventfd_write(host->done, 1);
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
		vm = ramet_vm_get(host->members[i]);
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
		console_log_close(&host->consoles, st.id);
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
		ramet_vm_put(host->members[i]);
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
