/* SPDX-License-Identifier: Apache-2.0 */
/* Connects this terminal (or whatever stdin and stdout are) with a console connection. */
#ifndef RAMET_VMM_CLI_CONSOLE_RELAY_H
#define RAMET_VMM_CLI_CONSOLE_RELAY_H

#include <stdbool.h>

#include "vmm/cli/client.h"

enum relay_end {
	RELAY_STOPPED,	/* the other side has ended: the VM stopped, or its process died */
	RELAY_ESCAPED,	/* the user typed Ctrl-] */
	RELAY_WOKEN,	/* `wake` became readable */
	RELAY_NO_OUTPUT /* stdout cannot be written, see errno. EPIPE: its reader has gone */
};

enum relay_keys {
	RELAY_KEYS_ESCAPE, /* Ctrl-] ends the relay; Ctrl-C and all other keys go to the guest */
	RELAY_KEYS_SIGNAL  /* the terminal still turns Ctrl-C into SIGINT and Ctrl-\ into SIGQUIT */
};

/*
 * Relays after an accepted "console" request until one of the ends above. wake: a descriptor for
 * poll, or -1.
 *
 * Meanwhile a terminal is raw whenever this process is in its foreground, also after 'fg' and after
 * the process was stopped. In the background the process neither reads nor changes the terminal,
 * and no key stops it. Up to 64 KiB of input that the guest does not take are held. If a terminal
 * has more input, it is dropped, so that the keys that end the relay are always seen. Input from
 * other files is read later.
 */
enum relay_end console_relay(struct client *c, int wake, enum relay_keys keys);

/* Prints an error and returns the exit status for RELAY_NO_OUTPUT. If the reader has gone, prints
 * nothing and returns the status of a SIGPIPE. */
int relay_no_output(int err);

#endif
