/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RAMET_VMM_BASE_ERR_H
#define RAMET_VMM_BASE_ERR_H

#include "include/ramet/ramet.h"

/* Fills err (if any) like printf; returns code. */
int err_set(struct ramet_err *err, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

#endif
