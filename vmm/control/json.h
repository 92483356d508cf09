/* SPDX-License-Identifier: Apache-2.0 */
/* What the control protocol says about VMs and families. Functions return NULL when out of memory:
 * a reply is whole, or there is none. */
#ifndef RAMET_VMM_CONTROL_JSON_H
#define RAMET_VMM_CONTROL_JSON_H

#include <jansson.h>

#include "include/ramet/ramet.h"

const char *state_name(enum ramet_state state);
/* What does not apply is null; so is memory, unless it has been counted. */
json_t *stat_json(const struct ramet_stat *st);
json_t *family_json(const struct ramet_family_stat *st);
/* Memory of family and host, for a comparison over a fork; vm is the one forked. */
json_t *memory_json(struct ramet_family *family, struct ramet_vm *vm);

/* Adds to *obj, and takes over value; without memory *obj becomes NULL, and stays so. */
void json_put(json_t **obj, const char *key, json_t *value);
void json_append(json_t **array, json_t *value);

json_t *ok_json(void);
/* With the symbol of the error, too ("ESRCH"). */
json_t *error_json(int err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
