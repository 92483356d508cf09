/* SPDX-License-Identifier: Apache-2.0 */
/* Inside the control protocol's server: one client's session. */
#ifndef RAMET_VMM_CONTROL_SESSION_H
#define RAMET_VMM_CONTROL_SESSION_H

#include "vmm/control/host.h"
#include "vmm/control/json.h"
#include "vmm/control/request.h"

#define CONTROL_PROTOCOL 1 /* in `hello`; raised when a change could break older clients */

struct session {
	struct host *host;
	struct wire *wire;
	bool answered;	   /* the operation has sent its reply itself */
	bool over;	   /* the connection must end */
	bool reserved;	   /* the client has a place for one brief request */
	bool asked;	   /* a request has come */
	uint64_t since_ns; /* when the wait for the next request began */
};

/* Returns a reference to the VM. If there is no such VM, returns NULL, and *refusal receives the
 * error reply (NULL: no memory for it). */
struct ramet_vm *session_find(struct session *s, const char *name, json_t **refusal);
#endif
