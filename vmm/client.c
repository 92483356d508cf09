/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/client.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "vmm/command.h"

int client_open(struct client *c, const char *vm_name)
{
	struct ramet_err err;
	int dir, fd;

	if (!family_of(vm_name, c->family))
		return complain(
			"'%s' cannot be a VM's name; 'ramet list' shows what runs", vm_name);
	dir = rundir_open(&err);
	fd = dir < 0 ? dir : rundir_connect(dir, c->family, &err);
	if (dir >= 0)
		close(dir);
	if (fd < 0)
		return complain("%s", err.msg);
	wire_init(&c->wire, fd);
	return 0;
}

void client_close(struct client *c)
{
	close(c->wire.fd);
	wire_free(&c->wire);
}

json_t *client_call(struct client *c, json_t *req)
{
	json_t *reply = NULL;
	const char *why;
	int err = wire_send(&c->wire, req);

	/* A refusal may have been sent before the connection broke. */
	if (!err || err == -ENODATA)
		err = wire_recv(&c->wire, WIRE_REPLY_MAX, &reply);
	if (err == -ENODATA || (err == -EPROTO && c->wire.ended))
		complain("the process of family '%s' ended before it answered", c->family);
	else if (err)
		complain("talking to family '%s': %s", c->family, strerror(-err));
	if (err || json_is_true(json_object_get(reply, "ok")))
		return reply;
	why = json_string_value(json_object_get(reply, "error"));
	complain("%s", why ? why : "the request failed");
	json_decref(reply);
	return NULL;
}

json_t *client_ask(const char *vm_name, json_t *req)
{
	struct client c;
	json_t *reply;

	if (client_open(&c, vm_name)) {
		json_decref(req);
		return NULL;
	}
	reply = client_call(&c, req);
	client_close(&c);
	return reply;
}

uint64_t reply_u64(const json_t *obj, const char *key)
{
	return (uint64_t)json_integer_value(json_object_get(obj, key));
}

void json_print(json_t *obj)
{
	json_dumpf(obj, stdout, JSON_INDENT(2));
	putchar('\n');
	json_decref(obj);
}
