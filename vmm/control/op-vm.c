/* SPDX-License-Identifier: Apache-2.0 */
/* Operations that look at VMs, and those that change one VM. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/control/ops.h"
#include "vmm/control/session-console.h"

/* A list begins no further count of memory after this time. */
#define LIST_COUNT_NS 5000000u

static int append_stat(void *arg, const struct ramet_stat *st)
{
	json_append(arg, stat_json(st));
	return 0;
}

/* Adds an ended VM to the list. The list already has it if the VM is still in the family, because
 * it has just ended or has descendants. */
static void append_ended(void *arg, const struct ramet_stat *st)
{
	json_t **vms = arg;
	const json_t *vm;
	size_t i;

	json_array_foreach (*vms, i, vm)
		if ((uint64_t)json_integer_value(json_object_get(vm, "id")) == st->id)
			return;
	json_append(vms, stat_json(st));
}

json_t *op_list(struct session *s, json_t *req)
{
	static const struct request_field none[] = { { 0 } };
	json_t *vms, *reply;
	struct ramet_family_stat fs;

	if (!request_take(req, none, &reply))
		return reply;
	vms = json_array();
	reply = ok_json();
	ramet_family_count(s->host->family, LIST_COUNT_NS);
	ramet_family_each_quick(s->host->family, append_stat, &vms);
	host_each_ended(s->host, append_ended, &vms);
	ramet_family_stat_quick(s->host->family, &fs);
	json_put(&reply, "vms", vms);
	json_put(&reply, "family", family_json(&fs));
	return reply;
}

static bool only_name(json_t *req, const char **name, json_t **refusal)
{
	const struct request_field fields[] = {
		{ "vm", REQUEST_STRING, .out = name },
		{ 0 },
	};

	return request_take(req, fields, refusal);
}

/* For a request about one VM: a reference to it, or NULL with the refusal. */
static struct ramet_vm *only_vm(struct session *s, json_t *req, json_t **refusal)
{
	const char *name = NULL;

	return only_name(req, &name, refusal) ? session_find(s, name, refusal) : NULL;
}

json_t *op_stat(struct session *s, json_t *req)
{
	const char *name = NULL;
	struct ramet_family_stat fs;
	struct ramet_stat st;
	struct ramet_vm *vm;
	json_t *refusal, *reply, *family;

	if (!only_name(req, &name, &refusal))
		return refusal;
	vm = session_find(s, name, &refusal);
	if (!vm && !host_ended(s->host, name, &st, NULL))
		return refusal;
	json_decref(refusal);
	if (vm)
		ramet_vm_stat(vm, &st);
	ramet_vm_put(vm);
	ramet_family_count(s->host->family, 0);
	ramet_family_stat_quick(s->host->family, &fs);
	reply = ok_json();
	family = family_json(&fs);
	json_put_kernel(&family, s->host->family);
	json_put(&reply, "vm", stat_json(&st));
	json_put(&reply, "family", family);
	return reply;
}

static json_t *call(
	struct session *s, json_t *req, int (*fn)(struct ramet_vm *vm, struct ramet_err *err))
{
	struct ramet_err err = { "" };
	json_t *reply;
	struct ramet_vm *vm = only_vm(s, req, &reply);
	int ret;

	if (!vm)
		return reply;
	ret = fn(vm, &err);
	ramet_vm_put(vm);
	return ret ? error_json(ret, "%s", err.msg[0] ? err.msg : strerror(-ret)) : ok_json();
}

json_t *op_pause(struct session *s, json_t *req)
{
	return call(s, req, ramet_pause);
}

json_t *op_resume(struct session *s, json_t *req)
{
	return call(s, req, ramet_resume);
}

json_t *op_reset(struct session *s, json_t *req)
{
	return call(s, req, ramet_reset);
}

json_t *op_stop(struct session *s, json_t *req)
{
	const char *name = NULL;
	struct ramet_vm *vm;
	json_t *reply;

	if (!only_name(req, &name, &reply))
		return reply;
	if (host_forget(s->host, name))
		return ok_json();
	vm = session_find(s, name, &reply);
	if (!vm)
		return reply;
	ramet_stop(vm, NULL); /* cannot fail */
	host_seen(s->host, vm);
	ramet_vm_put(vm);
	return ok_json();
}

static bool all_zero(const char *buf, size_t len)
{
	return !len || (!buf[0] && !memcmp(buf, buf + 1, len - 1));
}

static json_t *read_chunk(struct session *s, struct ramet_vm *vm, uint64_t gpa, size_t size)
{
	char *buf = malloc(size);
	int ret = buf ? ramet_read(vm, gpa, buf, size) : -ENOMEM;
	bool zero = !ret && all_zero(buf, size);
	json_t *reply = ret == -EFAULT ? error_json(ret, "not all of that is guest RAM")
			: ret ? error_json(ret, "cannot read guest memory: %s", strerror(-ret))
			      : json_pack("{s:b, s:b}", "ok", 1, "zero", zero);

	if (reply && !ret && !zero) {
		int err = wire_send(s->wire, reply);

		reply = NULL;
		s->answered = err != -ENOMEM;
		s->over = s->answered && (err || wire_send_raw(s->wire, buf, size));
	}
	free(buf);
	return reply;
}

json_t *op_read(struct session *s, json_t *req)
{
	const char *name = NULL;
	int64_t gpa = 0, size = 0;
	const struct request_field fields[] = {
		{ "vm", REQUEST_STRING, .out = &name },
		{ "gpa", REQUEST_INTEGER, .min = 0, .max = INT64_MAX, .out = &gpa },
		{ "size", REQUEST_INTEGER, .min = 1, .max = WIRE_CHUNK_MAX, .out = &size },
		{ 0 },
	};
	struct ramet_vm *vm;
	json_t *reply;

	if (!request_take(req, fields, &reply))
		return reply;
	vm = session_find(s, name, &reply);
	if (!vm)
		return reply;
	reply = read_chunk(s, vm, (uint64_t)gpa, (size_t)size);
	ramet_vm_put(vm);
	return reply;
}

json_t *op_console(struct session *s, json_t *req)
{
	struct console_log *log = NULL;
	const char *name = NULL;
	struct ramet_stat st;
	struct ramet_vm *vm;
	json_t *refusal;
	int err;

	if (!only_name(req, &name, &refusal))
		return refusal;
	vm = session_find(s, name, &refusal);
	if (!vm && !host_ended(s->host, name, &st, &log))
		return refusal;
	json_decref(refusal);
	err = wire_send(s->wire, ok_json());
	s->answered = err != -ENOMEM;
	s->over = s->answered;
	if (!err && vm)
		control_console(s->host, s->wire->fd, vm);
	else if (!err && log)
		control_console_ended(s->host, s->wire->fd, log);
	console_log_put(log);
	ramet_vm_put(vm);
	return NULL;
}
