/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RAMET_VMM_CONTROL_CONSOLE_H
#define RAMET_VMM_CONTROL_CONSOLE_H

#include "vmm/host.h"

/* Joins a connection and a VM's console, raw in both directions and starting with the backlog,
 * until the client leaves or the VM has stopped. */
void control_console(struct host *host, int fd, struct ramet_vm *vm);

#endif
