/* SPDX-License-Identifier: Apache-2.0 */
/* VMs, families and errors as JSON objects of the control protocol. Functions return NULL when out
 * of memory: a reply is never incomplete. */
#ifndef RAMET_VMM_CONTROL_JSON_H
#define RAMET_VMM_CONTROL_JSON_H

#include <jansson.h>

#include "include/ramet/ramet.h"

const char *state_name(enum ramet_state state);
/* A field that does not apply is null. So are the fields about memory unless it was counted. */
json_t *stat_json(const struct ramet_stat *st);
json_t *family_json(const struct ramet_family_stat *st);
/* Adds what the kernel has for the family, or null. */
void json_put_kernel(json_t **family, struct ramet_family *f);
/* Memory of the family and the host, to compare before and after a fork of vm. */
json_t *memory_json(struct ramet_family *family, struct ramet_vm *vm);

/* Adds value to *obj and takes the value over. Out of memory: *obj becomes NULL, and stays NULL. */
void json_put(json_t **obj, const char *key, json_t *value);
void json_append(json_t **array, json_t *value);

json_t *ok_json(void);
/* An error reply: the message, the number and its symbol ("ESRCH"). */
json_t *error_json(int err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
