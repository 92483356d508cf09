/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RAMET_VMM_CONTROL_SESSION_CONSOLE_H
#define RAMET_VMM_CONTROL_SESSION_CONSOLE_H

#include "vmm/control/host.h"

/* Joins a connection and a VM's console, raw in both directions and starting with the backlog,
 * until the client leaves or the VM has stopped. */
void control_console(struct host *host, int fd, struct ramet_vm *vm);
/* The same for a VM of which nothing is left but what it wrote. */
void control_console_ended(struct host *host, int fd, struct console_log *log);

#endif
