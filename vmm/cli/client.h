/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The commands' end of the control protocol. Everything here says on stderr what went wrong.
 *
 * A process that is stopped, or hangs, must not make a command hang without a word. What should
 * take no time is given up; for what may take any time the user is told, and may end it (Ctrl-C).
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
	int error;  /* -errno, when it could not be opened */
	bool quiet; /* nothing is said */

	/* The request that is waited for. */
	bool brief, told;
	uint64_t asked_ns, looked_ns;
};

/* Connects to the family of that VM. 0 or EXIT_TROUBLE, with the reason in `error`: -ENOENT if
 * there is no such family (any more). */
int client_open(struct client *c, const char *vm_name);
void client_close(struct client *c);
/* One request (its reference is dropped), one reply for the caller to drop; NULL: refused, or the
 * process has died, or does not answer. */
json_t *client_call(struct client *c, json_t *req);
/* Both for a request about one VM. */
json_t *client_ask(const char *vm_name, json_t *req);
/* Whether the family is there only for what went wrong: then `why` is that. Says nothing. */
bool client_kept(const char *family, char *why, size_t len);

/* An integer of a reply; 0 when it is missing or null. */
uint64_t reply_u64(const json_t *obj, const char *key);
/* Prints obj, indented, and drops it. */
void json_print(json_t *obj);

#endif
