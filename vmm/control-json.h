/* SPDX-License-Identifier: Apache-2.0 */
/* What the control protocol says about VMs and families. Functions return NULL when out of memory.
 */
#ifndef RAMET_VMM_CONTROL_JSON_H
#define RAMET_VMM_CONTROL_JSON_H

#include <jansson.h>

#include "include/ramet/ramet.h"

const char *state_name(enum ramet_state state);
json_t *stat_json(const struct ramet_stat *st);
json_t *family_json(const struct ramet_family_stat *st);
/* Memory of family and host, for a comparison over a fork; vm is the one forked. */
json_t *memory_json(struct ramet_family *family, struct ramet_vm *vm);

json_t *ok_json(void);
json_t *error_json(int err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
