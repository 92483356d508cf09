/* SPDX-License-Identifier: Apache-2.0 */
/* Making a shell, which takes a millisecond or more, and freeing it. */
#ifndef RAMET_VMM_KVM_SHELL_MAKE_H
#define RAMET_VMM_KVM_SHELL_MAKE_H

#include "vmm/kvm/shell.h"

/* 0 or -errno. Any thread may call this function, which waits for no guest. */
int shell_new(struct machine *machine, struct shell **out);
/* The vCPUs must be idle. Waits for their threads. sh may be NULL. */
void shell_free(struct shell *sh);

#endif
