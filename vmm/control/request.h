/* SPDX-License-Identifier: Apache-2.0 */
/* The fields of a request, checked against what its operation takes. */
#ifndef RAMET_VMM_CONTROL_REQUEST_H
#define RAMET_VMM_CONTROL_REQUEST_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

enum request_type { REQUEST_STRING, REQUEST_INTEGER, REQUEST_BOOLEAN };

/* One field; a table of them ends with a NULL name. `out` keeps its value if the field is optional
 * and left out. */
struct request_field {
	const char *name;
	enum request_type type;
	bool optional;
	int64_t min, max; /* of an integer */
	void *out;	  /* const char *, int64_t or bool; a string lives as long as the request */
};

/* Whether every field is there, of its type and in range, and none that is not in the table. If
 * not, *refusal is the reply that says so; NULL: no memory for it. */
bool request_take(json_t *req, const struct request_field *fields, json_t **refusal);

#endif
