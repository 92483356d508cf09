/* SPDX-License-Identifier: Apache-2.0 */
/* A family's process with fake VMs (fake-ramet.h), and its clients. The test fails if a client
 * waits in vain for a reply. */
#ifndef RAMET_TESTS_UNIT_HOST_COMMON_H
#define RAMET_TESTS_UNIT_HOST_COMMON_H

#include "fake-ramet.h"
#include "vmm/control/host.h"

#define SOON_MS 20000 /* enough for what must happen, even on a loaded machine */

extern struct host host;
extern struct ramet_family family;
extern struct ramet_vm *booted;

int setup(void **state);
int teardown(void **state); /* fails if references to VMs are left */

int join(void);
int join_any(int *fd); /* returns the result of host_serve(); always makes the connection */
void say(int fd, const char *line);
bool readable(int fd, int ms);
const char *hear(int fd);
json_t *parse(const char *line);
json_t *ask(int fd, const char *line);
json_t *ask_alone(const char *line);
const json_t *get(const json_t *obj, const char *key);
void assert_ok(json_t *reply);
bool is_over(int ms);
void sleep_ms(int ms);
void await_clients(unsigned n);
void await_room(void);

/* Calls run() with a separate runtime directory. */
int run_with_runtime_dir(int (*run)(void));

#endif
