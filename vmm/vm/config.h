/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration of a family: defaults, checks, and a copy of our own. */
#ifndef RAMET_VMM_VM_CONFIG_H
#define RAMET_VMM_VM_CONFIG_H

#include "include/ramet/ramet.h"

/* *to becomes `from` with its defaults filled in; its strings are ours, for config_free(). 0, or
 * -EINVAL or -ENOMEM with a line about it. */
int config_copy(struct ramet_config *to, const struct ramet_config *from, struct ramet_err *err);
void config_free(struct ramet_config *c);

#endif
