/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The client side of the control protocol. All functions print their errors on stderr.
 *
 * A process that is stopped or hangs must not make a command hang without a message. A request that
 * should be brief is given up. For a request that may take long, the user gets a message and may
 * end the command with Ctrl-C.
 */
#ifndef RAMET_VMM_CLI_CLIENT_H
#define RAMET_VMM_CLI_CLIENT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/control/rundir.h"
#include "vmm/control/wire.h"

struct client {
	struct wire wire;
	char family[FAMILY_NAME_MAX + 1];
	int pid;    /* of the family's process; 0: unknown */
	int error;  /* -errno, if it could not be opened */
	bool quiet; /* print no errors */

	/* State of the request that is under way. */
	bool brief, told;
	uint64_t asked_ns, looked_ns;
};

/* Connects to the family of that VM. 0, or EXIT_TROUBLE with the reason in c->error: -ENOENT if
 * there is no such family. */
int client_open(struct client *c, const char *vm_name);
void client_close(struct client *c);
/* Sends a request and drops its reference. Returns the reply, which the caller drops. NULL: the
 * request was refused, or the process has died or does not answer. */
json_t *client_call(struct client *c, json_t *req);
/* client_open() and client_call() for a request about one VM. */
json_t *client_ask(const char *vm_name, json_t *req);
/* True if the family's process has stayed only to show what went wrong. `why` receives the reason.
 * Prints nothing. */
bool client_kept(const char *family, char *why, size_t len);

/* Returns an integer of a reply; 0 if it is missing or null. */
uint64_t reply_u64(const json_t *obj, const char *key);
/* Prints obj, indented, and drops it. */
void json_print(json_t *obj);

#endif
