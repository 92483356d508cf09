/* SPDX-License-Identifier: Apache-2.0 */
/* Inside the control protocol's server: one client's session, and its operations. */
#ifndef RAMET_VMM_CONTROL_SESSION_H
#define RAMET_VMM_CONTROL_SESSION_H

#include "vmm/control/json.h"
#include "vmm/control/request.h"
#include "vmm/control/host.h"

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

/* The reply to send. NULL: the operation has `answered`, or there was no memory for a reply. */
typedef json_t *op_fn(struct session *s, json_t *req);

/* A reference to the VM, or NULL with the refusal (NULL: no memory for that). */
struct ramet_vm *session_find(struct session *s, const char *name, json_t **refusal);
/* ramet_wait() that gives up (-ECANCELED) when nobody wants to know any more. timeout_ms < 0: for
 * ever. */
int session_wait(struct session *s, struct ramet_vm *vm, enum ramet_event ev, uint64_t value,
	int64_t timeout_ms);

/* control-vm.c */
op_fn op_list, op_stat, op_pause, op_resume, op_reset, op_stop, op_read, op_console;
/* control-fork.c */
op_fn op_fork;
/* control-wait.c */
op_fn op_wait;

#endif
