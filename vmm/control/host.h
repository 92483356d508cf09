/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A family's process: the family, the consoles of its VMs, what is remembered of those that have
 * ended, and the clients on the control socket. The VMs that there are, are those that the library
 * knows; the library tells the host when one ends. One keeper thread accepts clients; each client
 * has a thread of its own.
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
#define HOST_CLIENTS_RESERVED 4 /* of them, for one brief request each */
#define HOST_SPARE_FDS	      4
#define HOST_ENDED_MAX	      64 /* VMs that are remembered after their guests have ended them */

/* A VM that its guest has ended. */
struct host_ended {
	struct ramet_stat st;
	struct console_log *log; /* a reference, or NULL: it had none */
};

struct host;

/* Serves one client until it leaves. `reserved`: it has a place for those who are brief. */
typedef void serve_fn(struct host *host, struct wire *wire, bool reserved);

struct host {
	serve_fn *serve;
	struct ramet_family *family;
	struct ramet_vm *booted;
	char name[RAMET_NAME_MAX];

	struct lock lock;    /* `family`, and the fields below */
	pthread_cond_t left; /* a client has left */
	/* VMs that are not in the family any more, since their guests have ended them; the oldest
	 * first. Those whose status is not 0 are listed until somebody stops them. */
	struct host_ended ended[HOST_ENDED_MAX];
	unsigned n_ended;
	struct ramet_stat last_wrong;	 /* the last VM that failed, or ended with another status */
	bool all_ended;			 /* no VM lives any more, nor will one */
	int client_fd[HOST_CLIENTS_MAX]; /* -1: free */
	atomic_uint n_clients;
	/* Descriptors held back, so that a family that has run out of them can still be told to
	 * stop something. */
	int spare[HOST_SPARE_FDS];

	int rundir, listener;
	int leave;	     /* eventfd: accept nobody any more */
	int done;	     /* eventfd: no VM lives any more, or it was told to end */
	int ending;	     /* eventfd: it was told to end; what is not said yet may be lost */
	bool keep;	     /* if the last VM goes wrong, stay until somebody stops it */
	atomic_bool kept;    /* that has happened */
	atomic_bool closing; /* sessions are to end */
	pthread_t keeper;
};

/* Before ramet_launch(): takes the name. host->keep may be set after it, before the launch. */
int host_init(struct host *host, const char *name, serve_fn *serve, struct ramet_err *err);
/* After it: serves until host_close(). Takes over the reference to vm. */
int host_start(
	struct host *host, struct ramet_family *family, struct ramet_vm *vm, struct ramet_err *err);
/* Lets clients finish what they are being told, gives the name back, stops and frees all. Also
 * after a failed launch, when the host was never started. */
void host_close(struct host *host);
/* Has the family that is to be launched tell the host of its VMs. */
void host_hooks(struct host *host, struct ramet_config *cfg);
/* Serves one more client on a connected socket, which it takes over. 0, or -errno when the client
 * has been sent away: -EAGAIN if there are too many. */
int host_serve(struct host *host, int fd);

/* Somebody has stopped this VM, which may have failed before: then nothing keeps its console any
 * more, nor perhaps the process. */
void host_seen(struct host *host, struct ramet_vm *vm);
/* The VM's console log; the VM has a reference to it. NULL: out of memory. */
struct console_log *host_console_log(struct ramet_vm *vm);
/* Of a VM that its guest has ended. False: there is none of that name (any more). *log, unless that
 * is NULL, becomes a reference to its console log, or NULL. */
bool host_ended(
	struct host *host, const char *name, struct ramet_stat *st, struct console_log **log);
/* Those that are listed: fn must not call back. */
void host_each_ended(
	struct host *host, void (*fn)(void *arg, const struct ramet_stat *st), void *arg);
bool host_forget(struct host *host, const char *name);
/* No VM lives, and the process has stayed for what went wrong, which *st tells. */
bool host_kept(struct host *host, struct ramet_stat *st);

/* host-clients.c */
void host_clients_init(struct host *host);
void host_clients_free(struct host *host);
/* Takes the next client from the listener's queue. */
void host_accept(struct host *host);
/* Lets clients finish what they are being told, then cuts them off. */
void host_end_clients(struct host *host);
/* None but reserved places are left: whoever does nothing should make room. */
bool host_crowded(struct host *host);

#endif
