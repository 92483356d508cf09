/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/control/request.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "vmm/control/json.h"

static const char *type_name(const json_t *value)
{
	switch (json_typeof(value)) {
	case JSON_OBJECT:
		return "an object";
	case JSON_ARRAY:
		return "an array";
	case JSON_STRING:
		return "a string";
	case JSON_INTEGER:
		return "a whole number";
	case JSON_REAL:
		return "a number with a fraction or an exponent";
	case JSON_TRUE:
	case JSON_FALSE:
		return "true or false";
	default:
		return "null";
	}
}

static const char *wanted(const struct request_field *f, char buf[80])
{
	if (f->type == REQUEST_STRING)
		return "a string";
	if (f->type == REQUEST_BOOLEAN)
		return "true or false";
	if (f->max == INT64_MAX && f->min == INT64_MIN)
		return "a whole number";
	if (f->max == INT64_MAX)
		snprintf(buf, 80, "a whole number, at least %" PRId64, f->min);
	else
		snprintf(buf, 80, "a whole number from %" PRId64 " to %" PRId64, f->min, f->max);
	return buf;
}

/* Stores the value in the field's `out`. False: the value has another type. */
static bool take(const struct request_field *f, const json_t *value)
{
	if (f->type == REQUEST_STRING && json_is_string(value))
		*(const char **)f->out = json_string_value(value);
	else if (f->type == REQUEST_BOOLEAN && json_is_boolean(value))
		*(bool *)f->out = json_is_true(value);
	else if (f->type == REQUEST_INTEGER && json_is_integer(value))
		*(int64_t *)f->out = json_integer_value(value);
	else
		return false;
	return true;
}

static bool field_ok(json_t *req, const struct request_field *f, json_t **refusal)
{
	const json_t *value = json_object_get(req, f->name);
	char buf[80];
	int64_t v;

	if (!value && f->optional)
		return true;
	if (!value) {
		*refusal = error_json(
			EPROTO, "bad request: '%s' is missing: %s", f->name, wanted(f, buf));
		return false;
	}
	if (!take(f, value)) {
		*refusal = error_json(EPROTO, "bad request: '%s' must be %s, not %s", f->name,
			wanted(f, buf), type_name(value));
		return false;
	}
	v = json_integer_value(value);
	if (f->type != REQUEST_INTEGER || (v >= f->min && v <= f->max))
		return true;
	*refusal = error_json(
		EINVAL, "bad request: '%s' must be %s, not %" PRId64, f->name, wanted(f, buf), v);
	return false;
}

static bool listed(const struct request_field *fields, const char *name)
{
	while (fields->name && strcmp(fields->name, name))
		fields++;
	return fields->name || !strcmp(name, "op");
}

bool request_take(json_t *req, const struct request_field *fields, json_t **refusal)
{
	const char *key;
	json_t *value;

	*refusal = NULL;
	json_object_foreach (req, key, value)
		if (!listed(fields, key)) {
			*refusal = error_json(EPROTO,
				"bad request: operation '%s' has no field '%.64s'",
				json_string_value(json_object_get(req, "op")), key);
			return false;
		}
	for (; fields->name; fields++)
		if (!field_ok(req, fields, refusal))
			return false;
	return true;
}
