/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RAMET_VMM_BASE_ERR_H
#define RAMET_VMM_BASE_ERR_H

#include "include/ramet/ramet.h"

/* Formats a message into err (if not NULL) like printf. Returns code. */
int err_set(struct ramet_err *err, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

#endif
