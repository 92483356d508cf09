/* SPDX-License-Identifier: Apache-2.0 */
/* The operations of the control protocol (docs/control.md). */
#ifndef RAMET_VMM_CONTROL_OPS_H
#define RAMET_VMM_CONTROL_OPS_H

#include "vmm/control/session.h"

/* The reply to send. NULL: the operation has `answered`, or there was no memory for a reply. */
typedef json_t *op_fn(struct session *s, json_t *req);

/* op-vm.c */
op_fn op_list, op_stat, op_pause, op_resume, op_reset, op_stop, op_read, op_console;
/* op-fork.c */
op_fn op_fork;
/* op-wait.c */
op_fn op_wait;

/* ramet_wait() that gives up (-ECANCELED) when nobody wants to know any more. timeout_ms < 0: for
 * ever. */
int session_wait(struct session *s, struct ramet_vm *vm, enum ramet_event ev, uint64_t value,
	int64_t timeout_ms);

#endif
