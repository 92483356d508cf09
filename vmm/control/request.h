/* SPDX-License-Identifier: Apache-2.0 */
/* Checks the fields of a request against a table of the fields that its operation takes. */
#ifndef RAMET_VMM_CONTROL_REQUEST_H
#define RAMET_VMM_CONTROL_REQUEST_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

enum request_type { REQUEST_STRING, REQUEST_INTEGER, REQUEST_BOOLEAN };

/* One field. A table of fields ends with a NULL name. If an optional field is missing, *out keeps
 * its value. */
struct request_field {
	const char *name;
	enum request_type type;
	bool optional;
	int64_t min, max; /* the range of an integer */
	void *out;	  /* const char *, int64_t or bool; a string lives as long as the request */
};

/* Checks and stores all fields: each must have its type and be in range, and no other field is
 * allowed. If that fails, *refusal receives the error reply; NULL: no memory for it. */
bool request_take(json_t *req, const struct request_field *fields, json_t **refusal);

#endif
