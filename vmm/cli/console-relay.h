/* SPDX-License-Identifier: Apache-2.0 */
/* This terminal (or whatever stdin and stdout are) joined to a console connection. */
#ifndef RAMET_VMM_CLI_CONSOLE_RELAY_H
#define RAMET_VMM_CLI_CONSOLE_RELAY_H

#include <stdbool.h>

#include "vmm/cli/client.h"

enum relay_end {
	RELAY_STOPPED,	/* the other side has ended: the VM stopped, or its process died */
	RELAY_ESCAPED,	/* the user typed Ctrl-] */
	RELAY_WOKEN,	/* `wake` became readable */
	RELAY_NO_OUTPUT /* stdout takes no more; errno says why. EPIPE: its reader has gone */
};

enum relay_keys {
	RELAY_KEYS_ESCAPE, /* Ctrl-] ends the relay; Ctrl-C and all other keys are the guest's */
	RELAY_KEYS_SIGNAL  /* the terminal still turns Ctrl-C into SIGINT and Ctrl-\ into SIGQUIT */
};

/*
 * Relays after an accepted "console" request until one of the ends above. wake: a descriptor for
 * poll, or -1.
 *
 * A terminal is raw meanwhile: whenever this process is in its foreground, so also after 'fg', and
 * again after it was stopped. In the background it neither reads the terminal nor changes it, and
 * no key stops the process. Up to 64 KiB that the guest does not take are held for it. What a
 * terminal has beyond that is dropped, so that the keys that end the relay are always seen; any
 * other input is read later.
 */
enum relay_end console_relay(struct client *c, int wake, enum relay_keys keys);

/* The exit status for RELAY_NO_OUTPUT, after a line about it: as if by SIGPIPE, without a word, if
 * the reader has gone. */
int relay_no_output(int err);

#endif
