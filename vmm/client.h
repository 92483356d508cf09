/* SPDX-License-Identifier: Apache-2.0 */
/* The commands' end of the control protocol. Everything here says on stderr what went wrong. */
#ifndef RAMET_VMM_CLIENT_H
#define RAMET_VMM_CLIENT_H

#include <jansson.h>

#include "vmm/rundir.h"
#include "vmm/wire.h"

struct client {
	struct wire wire;
	char family[FAMILY_NAME_MAX + 1];
};

/* Connects to the family of that VM. 0 or EXIT_TROUBLE. */
int client_open(struct client *c, const char *vm_name);
void client_close(struct client *c);
/* One request (its reference is dropped), one reply for the caller to drop; NULL: refused, or the
 * process has died. */
json_t *client_call(struct client *c, json_t *req);
/* Both for a request about one VM. */
json_t *client_ask(const char *vm_name, json_t *req);

/* An integer of a reply; 0 when it is missing or null. */
uint64_t reply_u64(const json_t *obj, const char *key);
/* Prints obj, indented, and drops it. */
void json_print(json_t *obj);

#endif
