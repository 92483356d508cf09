/* SPDX-License-Identifier: Apache-2.0 */
/* This terminal (or whatever stdin and stdout are) joined to a console connection. */
#ifndef RAMET_VMM_CONSOLE_RELAY_H
#define RAMET_VMM_CONSOLE_RELAY_H

#include <stdbool.h>

#include "vmm/client.h"

enum relay_end {
	RELAY_STOPPED,	/* the other side has ended: the VM stopped, or its process died */
	RELAY_ESCAPED,	/* the user typed Ctrl-] */
	RELAY_SIGNAL,	/* `wake` became readable */
	RELAY_NO_OUTPUT /* nobody reads stdout any more */
};

/* Relays after an accepted "console" request until one of the ends above. wake: a descriptor, or
 * -1. keep_signals: the terminal still turns Ctrl-C into SIGINT. */
enum relay_end console_relay(struct client *c, int wake, bool keep_signals);

#endif
