/* SPDX-License-Identifier: Apache-2.0 */
/* Inside the control protocol's server: one client's session. */
#ifndef RAMET_VMM_CONTROL_SESSION_H
#define RAMET_VMM_CONTROL_SESSION_H

#include "vmm/control/host.h"
#include "vmm/control/json.h"
#include "vmm/control/request.h"

#define CONTROL_PROTOCOL 1 /* of `hello`: raised when a client of the one before might err */

struct session {
	struct host *host;
	struct wire *wire;
	bool answered;	   /* the operation has sent its reply itself */
	bool over;	   /* and the connection is to end */
	bool reserved;	   /* a place for one brief request */
	bool asked;	   /* a request has come */
	uint64_t since_ns; /* when waiting for the next one began */
};

/* A reference to the VM, or NULL with the refusal (NULL: no memory for that). */
struct ramet_vm *session_find(struct session *s, const char *name, json_t **refusal);
#endif
