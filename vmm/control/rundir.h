/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The runtime directory: one socket NAME.sock per family, in a directory that only its owner can
 * enter. This is $RAMET_RUNTIME_DIR if it is set; otherwise /run/ramet for root, and
 * $XDG_RUNTIME_DIR/ramet for other users.
 *
 * Sockets are reached through the directory's descriptor: a long path is no problem, and no other
 * process can put another directory in its place meanwhile. A lock on the directory serializes
 * claiming, cleaning up and releasing names; a process waits at most 5 s for it. A socket on which
 * no process listens belonged to a process that died, and is removed. Any other file with such a
 * name is left alone.
 * Functions return 0, a descriptor, or -errno with err filled.
 */
#ifndef RAMET_VMM_CONTROL_RUNDIR_H
#define RAMET_VMM_CONTROL_RUNDIR_H

#include <stdbool.h>

#include "include/ramet/ramet.h"

#define FAMILY_NAME_MAX 32u /* leaves room for the numbers of forks of forks */

/* Whether the name has 1..FAMILY_NAME_MAX letters, digits, '-' and '_', and does not start with
 * '-'. */
bool family_name_ok(const char *name);
/* Writes the family of a VM's name ("web" for "web.1.2") to family[FAMILY_NAME_MAX + 1]. False:
 * this cannot be a VM's name. */
bool family_of(const char *vm_name, char *family);

/* Opens the directory and makes it if it is missing. -EPERM: other users can enter it. */
int rundir_open(struct ramet_err *err);
/* Makes a listening socket for the family. -EADDRINUSE: a running process has that name. */
int rundir_claim(int dir, const char *family, struct ramet_err *err);
void rundir_release(int dir, const char *family);
/* Connects to the family. -ENOENT: there is no such family. */
int rundir_connect(int dir, const char *family, struct ramet_err *err);
/* Calls fn for every family with a socket, in order of name, until fn returns non-zero. */
int rundir_each(int dir, int (*fn)(void *arg, const char *family), void *arg);
/* Whether the process at the socket's other end runs as the same user or as root. */
bool peer_ok(int sock);
/* The process at the socket's other end: the listener or the client. 0: unknown. */
int peer_pid(int sock);

#endif
