/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RAMET_VMM_CONTROL_SESSION_CONSOLE_H
#define RAMET_VMM_CONTROL_SESSION_CONSOLE_H

#include "vmm/control/host.h"

/* Connects a client to a VM's console: first the backlog, then raw bytes in both directions, until
 * the client leaves or the VM has stopped. */
void control_console(struct host *host, int fd, struct ramet_vm *vm);
/* Sends the console log of a VM that has ended. */
void control_console_ended(struct host *host, int fd, struct console_log *log);

#endif
