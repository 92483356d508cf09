/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A family's process: the family, the consoles of its VMs, records of the VMs that have ended, and
 * the clients on the control socket. The host has no list of living VMs: it asks the library for
 * them, and the library tells the host when a VM ends. One keeper thread accepts clients; each
 * client has a thread of its own.
 */
#ifndef RAMET_VMM_CONTROL_HOST_H
#define RAMET_VMM_CONTROL_HOST_H

#include <jansson.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "include/ramet/ramet.h"
#include "vmm/base/lock.h"
#include "vmm/control/console-log.h"
#include "vmm/control/wire.h"

#define HOST_CLIENTS_MAX      64
#define HOST_CLIENTS_RESERVED 4 /* the last places: for one brief request each */
#define HOST_SPARE_FDS	      4
#define HOST_ENDED_MAX	      64 /* VMs that are remembered after their guests have ended them */

/* A VM that its guest has ended. */
struct host_ended {
	struct ramet_stat st;
	struct console_log *log; /* a reference; NULL: the VM had no log */
};

/* Of a VM that has ended: whether the end is one that a user must see. The VM's console log is then
 * kept until a user stops the VM. */
static inline bool ended_wrong(const struct ramet_stat *st)
{
	return st->state == RAMET_FAILED || st->exit_status > 0;
}

struct host;

/* Serves one client until it leaves. `reserved`: the client has a place for one brief request. */
typedef void serve_fn(struct host *host, struct wire *wire, bool reserved);

struct host {
	serve_fn *serve;
	struct ramet_family *family;
	struct ramet_vm *booted;
	char name[RAMET_NAME_MAX];

	struct lock lock;    /* `family`, and the fields below */
	pthread_cond_t left; /* a client has left */
	/* VMs that have left the family because their guests have ended them, the oldest first.
	 * Those with a status other than 0 are listed until a client stops them. */
	struct host_ended ended[HOST_ENDED_MAX];
	unsigned n_ended;
	struct ramet_stat last_wrong;	 /* the last VM that failed, or ended with another status */
	bool all_ended;			 /* no VM is alive, and there will be no new one */
	int client_fd[HOST_CLIENTS_MAX]; /* -1: free */
	atomic_uint n_clients;
	/* Spare descriptors. When the process has run out of descriptors, it closes one of these to
	 * accept a client, which can then stop a VM. */
	int spare[HOST_SPARE_FDS];

	int rundir, listener;
	int leave;	     /* eventfd: the keeper must accept no more clients */
	int done;	     /* eventfd: no VM is alive, or the process was told to end */
	int ending;	     /* eventfd: told to end; unsent console output may be lost */
	bool keep;	     /* if the last VM goes wrong, stay until a client stops it */
	atomic_bool kept;    /* the last VM has gone wrong, and `keep` was set */
	atomic_bool closing; /* sessions must end */
	pthread_t keeper;
};

/* Called before ramet_launch(): claims the name. The caller may set host->keep between the two. */
int host_init(struct host *host, const char *name, serve_fn *serve, struct ramet_err *err);
/* Called after ramet_launch(): serves until host_close(). Takes over the reference to vm. */
int host_start(
	struct host *host, struct ramet_family *family, struct ramet_vm *vm, struct ramet_err *err);
/* Gives the name back, stops all VMs, lets clients receive their last replies, and frees all. Also
 * called after a failed launch, when the host was never started. */
void host_close(struct host *host);
/* Sets the functions in cfg by which the new family tells the host about its VMs. */
void host_hooks(struct host *host, struct ramet_config *cfg);
/* Takes over a connected socket and serves the client on it. Returns 0, or -errno if the client was
 * turned away: -EAGAIN if there are too many clients. */
int host_serve(struct host *host, int fd);

/* A client has stopped this VM. If the VM had failed, its console is no longer kept, and the
 * process may end. */
void host_seen(struct host *host, struct ramet_vm *vm);
/* Returns the VM's console log, to which the VM has a reference. NULL: out of memory. */
struct console_log *host_console_log(struct ramet_vm *vm);
/* Looks up a VM that its guest has ended. False: no such VM is remembered. If log is not NULL, *log
 * receives a reference to the VM's console log, or NULL if it had none. */
bool host_ended(
	struct host *host, const char *name, struct ramet_stat *st, struct console_log **log);
/* Calls fn for each ended VM with a status other than 0. fn must not call the host. */
void host_each_ended(
	struct host *host, void (*fn)(void *arg, const struct ramet_stat *st), void *arg);
/* Forgets an ended VM. False: no such VM is remembered. */
bool host_forget(struct host *host, const char *name);
/* Whether the process stays because its last VM went wrong. *st receives that VM's state. */
bool host_kept(struct host *host, struct ramet_stat *st);

/* host-clients.c */
void host_clients_init(struct host *host);
void host_clients_free(struct host *host);
/* Accepts the next client from the listener's queue. */
void host_accept(struct host *host);
/* Lets clients receive their last replies, then cuts them off. */
void host_end_clients(struct host *host);
/* Whether only reserved places are left: then idle clients are disconnected sooner. */
bool host_crowded(struct host *host);

#endif
