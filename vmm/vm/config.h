/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration of a family: defaults, checks, and a private copy. */
#ifndef RAMET_VMM_VM_CONFIG_H
#define RAMET_VMM_VM_CONFIG_H

#include "include/ramet/ramet.h"

/* Copies `from` to *to and fills in the defaults. The strings are copies, for config_free(). 0, or
 * -EINVAL or -ENOMEM and an error. */
int config_copy(struct ramet_config *to, const struct ramet_config *from, struct ramet_err *err);
void config_free(struct ramet_config *c);

#endif
