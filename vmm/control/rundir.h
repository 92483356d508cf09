/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The runtime directory: one socket NAME.sock per family, in a directory that only its owner can
 * enter. $RAMET_RUNTIME_DIR; else /run/ramet for root, $XDG_RUNTIME_DIR/ramet for others.
 *
 * Sockets are reached through the directory's descriptor, so a long path does not matter and
 * nobody can swap the directory under us. Claiming, cleaning and releasing take turns by a lock on
 * the directory, for which nobody waits longer than a few seconds; a socket nobody listens on
 * belonged to a process that died and is removed. Whatever else has such a name is left alone.
 * Functions return 0, a descriptor, or -errno with err filled.
 */
#ifndef RAMET_VMM_CONTROL_RUNDIR_H
#define RAMET_VMM_CONTROL_RUNDIR_H

#include <stdbool.h>

#include "include/ramet/ramet.h"

#define FAMILY_NAME_MAX 32u /* leaves room for the numbers of forks of forks */

/* 1..FAMILY_NAME_MAX of letters, digits, '-' and '_', not starting with '-'. */
bool family_name_ok(const char *name);
/* The family of a VM's name ("web" of "web.1.2") into family[FAMILY_NAME_MAX + 1]; false: no such
 * name can be. */
bool family_of(const char *vm_name, char *family);

/* A descriptor of the directory; made if missing, refused unless it is the caller's alone. */
int rundir_open(struct ramet_err *err);
/* A listening socket for the family. -EADDRINUSE: a living process has that name. */
int rundir_claim(int dir, const char *family, struct ramet_err *err);
void rundir_release(int dir, const char *family);
/* A connection. -ENOENT: no such family (any more). */
int rundir_connect(int dir, const char *family, struct ramet_err *err);
/* Calls fn for every family with a socket, in order of name, until it returns non-zero. */
int rundir_each(int dir, int (*fn)(void *arg, const char *family), void *arg);
/* Whether the socket's other end runs as us or as root. */
bool peer_ok(int sock);
/* The process that listens, or has connected; 0: unknown. */
int peer_pid(int sock);

#endif
