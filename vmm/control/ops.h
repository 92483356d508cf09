/* SPDX-License-Identifier: Apache-2.0 */
/* The operations of the control protocol (docs/control.md). */
#ifndef RAMET_VMM_CONTROL_OPS_H
#define RAMET_VMM_CONTROL_OPS_H

#include "vmm/control/session.h"

/* Returns the reply to send. NULL: the operation has sent its reply itself (s->answered), or there
 * was no memory for one. */
typedef json_t *op_fn(struct session *s, json_t *req);

/* op-vm.c */
op_fn op_list, op_stat, op_pause, op_resume, op_reset, op_stop, op_read, op_console;
/* op-fork.c */
op_fn op_fork;
/* op-wait.c */
op_fn op_wait;

/* Like ramet_wait(), but returns -ECANCELED when the client has left or the process ends.
 * timeout_ms < 0: no timeout. */
int session_wait(struct session *s, struct ramet_vm *vm, enum ramet_event ev, uint64_t value,
	int64_t timeout_ms);

#endif
