/* SPDX-License-Identifier: Apache-2.0 */
/* The clients of a family's process: which clients get a place, and how they are turned away. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/base/clock.h"
#include "vmm/base/priority.h"
#include "vmm/control/host.h"
#include "vmm/control/rundir.h"

#define RETRY_MS 50  /* pause after a client could not be accepted */
#define GRACE_S	 2u  /* at the end: time for clients to receive their replies */
#define CUT_S	 60u /* after that: time for their requests to be carried out */

static void spares_top_up(struct host *host)
{
	for (unsigned i = 0; i < HOST_SPARE_FDS; i++)
		if (host->spare[i] < 0)
			host->spare[i] = fcntl(host->rundir, F_DUPFD_CLOEXEC, 0);
}

/* Closes one spare descriptor, so that accept4() can have it. */
static bool spares_use_one(struct host *host)
{
	bool found = false;

	lock_take(&host->lock);
	for (unsigned i = 0; i < HOST_SPARE_FDS && !found; i++) {
		found = host->spare[i] >= 0;
		if (found) {
			close(host->spare[i]);
			host->spare[i] = -1;
		}
	}
	lock_release(&host->lock);
	return found;
}

void host_clients_init(struct host *host)
{
	cond_init(&host->left);
	memset(host->client_fd, -1, sizeof(host->client_fd));
	memset(host->spare, -1, sizeof(host->spare));
	spares_top_up(host);
}

void host_clients_free(struct host *host)
{
	for (unsigned i = 0; i < HOST_SPARE_FDS; i++)
		if (host->spare[i] >= 0)
			close(host->spare[i]);
	pthread_cond_destroy(&host->left);
}

bool host_crowded(struct host *host)
{
	return atomic_load(&host->n_clients) >= HOST_CLIENTS_MAX - HOST_CLIENTS_RESERVED;
}

/* ---- places ---- */

struct client {
	struct host *host;
	unsigned slot;
	bool reserved; /* has a place for one brief request */
	struct wire wire;
};

static void *client_main(void *arg)
{
	struct client *c = arg;
	struct host *host = c->host;

	/* Guests must not starve the family's clients. */
	hurry_for_good(HURRY_PRIORITY);
	host->serve(host, &c->wire, c->reserved);
	lock_take(&host->lock);
	close(c->wire.fd);
	host->client_fd[c->slot] = -1;
	atomic_fetch_sub(&host->n_clients, 1);
	spares_top_up(host);
	pthread_cond_broadcast(&host->left);
	lock_release(&host->lock);
	wire_free(&c->wire);
	free(c);
	return NULL;
}

/* Starts the client's thread in a free slot. The caller holds the lock. */
static int client_start(struct host *host, struct client *c)
{
	pthread_attr_t attr;
	pthread_t thread;
	int err;

	for (c->slot = 0; c->slot < HOST_CLIENTS_MAX; c->slot++)
		if (host->client_fd[c->slot] < 0)
			break;
	if (c->slot == HOST_CLIENTS_MAX)
		return -EAGAIN;
	c->reserved = host_crowded(host);
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	err = pthread_create(&thread, &attr, client_main, c);
	pthread_attr_destroy(&attr);
	if (err)
		return err == EAGAIN ? -ENOMEM : -err; /* -EAGAIN means that no slot is free */
	host->client_fd[c->slot] = c->wire.fd;
	atomic_fetch_add(&host->n_clients, 1);
	return 0;
}

/* Sends an error. If the socket cannot take the line at once, the client does not get it. */
static void turn_away(int fd, int err)
{
	char line[160];
	int len = snprintf(line, sizeof(line),
		"{\"ok\":false,\"errno\":%d,\"code\":\"%s\",\"error\":\"%s\",\"busy\":true}\n",
		-err, err == -EAGAIN ? "EAGAIN" : "ENOMEM",
		err == -EAGAIN ? "too many clients"
			       : "no memory, or no thread, for another client");

	send(fd, line, (size_t)len, MSG_DONTWAIT | MSG_NOSIGNAL);
}

int host_serve(struct host *host, int fd)
{
	struct client *c = calloc(1, sizeof(*c));
	int err = -ENOMEM;

	if (c) {
		c->host = host;
		wire_init(&c->wire, fd);
		lock_take(&host->lock);
		err = client_start(host, c);
		lock_release(&host->lock);
	}
	if (err) {
		turn_away(fd, err);
		close(fd);
		free(c);
	}
	return err;
}

void host_accept(struct host *host)
{
	int fd = accept4(host->listener, NULL, NULL, SOCK_CLOEXEC);

	if (fd < 0) {
		/* The client is still in the queue. */
		if ((errno != EMFILE && errno != ENFILE) || !spares_use_one(host))
			poll(NULL, 0, RETRY_MS);
		return;
	}
	if (peer_ok(fd))
		host_serve(host, fd);
	else
		close(fd);
}

/* ---- the end ---- */

static void shut_all(struct host *host, int how)
{
	for (unsigned i = 0; i < HOST_CLIENTS_MAX; i++)
		if (host->client_fd[i] >= 0)
			shutdown(host->client_fd[i], how);
}

/* Waits until all clients have left, at most `seconds`. The caller holds the lock. */
static void wait_for_clients(struct host *host, unsigned seconds)
{
	struct timespec until = timespec_of(now_ns() + seconds * 1000000000ull);

	while (atomic_load(&host->n_clients) &&
		cond_wait_until(&host->left, &host->lock, &until) == 0)
		;
}

void host_end_clients(struct host *host)
{
	lock_take(&host->lock);
	shut_all(host, SHUT_RD);
	wait_for_clients(host, GRACE_S);
	shut_all(host, SHUT_RDWR);
	wait_for_clients(host, CUT_S);
	if (atomic_load(&host->n_clients)) {
		/* Those threads still use the family, so it cannot be freed: leave that to the
		 * kernel. */
		fprintf(stderr,
			"ramet: %u requests to '%s' have not ended %u s after its VMs were "
			"stopped; "
			"the process ends without waiting for them\n",
			atomic_load(&host->n_clients), host->name, CUT_S);
		_exit(EXIT_FAILURE);
	}
	lock_release(&host->lock);
}
