/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/control-json.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "include/ramet/abi.h"
#include "vmm/clock.h"

#define PAGE 4096

const char *state_name(enum ramet_state state)
{
	static const char *const names[] = { "running", "paused", "stopped", "failed" };

	return names[state];
}

json_t *stat_json(const struct ramet_stat *st)
{
	json_t *o = json_pack("{s:s, s:I, s:I, s:s, s:i, s:I, s:I, s:I, s:I, s:i, s:i}", "name",
		st->name, "id", (json_int_t)st->id, "parent_id", (json_int_t)st->parent_id, "state",
		state_name(st->state), "cpus", (int)st->cpus, "memory", (json_int_t)st->memory,
		"births", (json_int_t)st->births, "age_ns", (json_int_t)(now_ns() - st->born_ns),
		"heartbeats", (json_int_t)st->heartbeats, "phase", (int)st->phase, "exit_status",
		st->exit_status);

	if (!o)
		return NULL;
	json_object_set_new(o, "ready_ns",
		st->ready_ns ? json_integer((json_int_t)(st->ready_ns - st->born_ns))
			     : json_null());
	json_object_set_new(o, "counter", json_integer(st->counter));
	json_object_set_new(o, "private_bytes", json_integer((json_int_t)st->private_bytes));
	json_object_set_new(o, "shared_bytes", json_integer((json_int_t)st->shared_bytes));
	json_object_set_new(o, "deferred_bytes", json_integer((json_int_t)st->deferred_bytes));
	json_object_set_new(o, "table_bytes", json_integer((json_int_t)st->table_bytes));
	json_object_set_new(o, "tables_shared", json_integer((json_int_t)st->tables_shared));
	if (st->report != RAMET_REPORT_NONE) {
		json_object_set_new(o, "report", json_integer(st->report));
		json_object_set_new(o, "report_gpa", json_integer((json_int_t)st->report_gpa));
	}
	if (st->failure[0])
		json_object_set_new(o, "failure", json_string(st->failure));
	return o;
}

json_t *family_json(const struct ramet_family_stat *st)
{
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s, s:I, s:I, s:I, s:I}",
		"vms", (json_int_t)st->vms, "shells_ready", (json_int_t)st->shells_ready,
		"generations", (json_int_t)st->generations, "pool_bytes",
		(json_int_t)st->pool_bytes, "pool_resident_bytes",
		(json_int_t)st->pool_resident_bytes, "table_bytes", (json_int_t)st->table_bytes,
		"tables", (json_int_t)st->tables, "duplicate_bytes",
		(json_int_t)st->duplicate_bytes, "headroom_bytes", (json_int_t)st->headroom_bytes,
		"headroom_of", st->headroom_of, "forks", (json_int_t)st->forks, "resets",
		(json_int_t)st->resets, "resolved_spans", (json_int_t)st->resolved_spans,
		"taken_back_spans", (json_int_t)st->taken_back_spans);
}

/* A "Key:  123 kB" line of a file in /proc, as bytes; 0 when it is not there. */
static uint64_t proc_kb(const char *path, const char *key)
{
	FILE *f = fopen(path, "re");
	char line[128];
	unsigned long long kb = 0;

	while (f && fgets(line, sizeof(line), f))
		if (!strncmp(line, key, strlen(key)))
			sscanf(line + strlen(key), "%llu", &kb);
	if (f)
		fclose(f);
	return kb << 10;
}

json_t *memory_json(struct ramet_family *family, struct ramet_vm *vm)
{
	struct ramet_family_stat fs;
	struct ramet_stat st;

	ramet_family_stat(family, &fs);
	ramet_vm_stat(vm, &st);
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I}", "vms", (json_int_t)fs.vms,
		"mapped_bytes", (json_int_t)st.memory, "table_bytes", (json_int_t)fs.table_bytes,
		"vm_table_bytes", (json_int_t)(st.table_bytes + st.tables_shared * PAGE),
		"host_table_bytes", (json_int_t)proc_kb("/proc/self/status", "VmPTE:"),
		"free_bytes", (json_int_t)proc_kb("/proc/meminfo", "MemAvailable:"));
}

json_t *ok_json(void)
{
	return json_pack("{s:b}", "ok", 1);
}

json_t *error_json(int err, const char *fmt, ...)
{
	va_list ap;
	char msg[512];

	va_start(ap, fmt);
	vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	return json_pack("{s:b, s:i, s:s}", "ok", 0, "errno", err < 0 ? -err : err, "error", msg);
}
