/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/control/json.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "include/ramet/abi.h"
#include "vmm/base/clock.h"

#define PAGE 4096

const char *state_name(enum ramet_state state)
{
	static const char *const names[] = { "running", "paused", "stopped", "failed" };

	return names[state];
}

static json_t *u64(uint64_t v)
{
	return json_integer((json_int_t)v);
}

static json_t *u64_if(bool known, uint64_t v)
{
	return known ? u64(v) : json_null();
}

/* The name of a phase, or null: only some guests give phase numbers a meaning. */
static json_t *phase_name(uint32_t phase)
{
	static const char *const names[] = {
		[RAMET_PHASE_BOOT] = "boot",
		[RAMET_PHASE_READY] = "ready",
		[RAMET_PHASE_VERIFIED] = "verified",
	};

	return phase < sizeof(names) / sizeof(names[0]) ? json_string(names[phase]) : json_null();
}

static void put_identity(json_t **o, const struct ramet_stat *st)
{
	json_put(o, "name", json_string(st->name));
	json_put(o, "id", u64(st->id));
	json_put(o, "parent_id", u64_if(st->id, st->parent_id));
	json_put(o, "state", json_string(state_name(st->state)));
	json_put(o, "failure", st->failure[0] ? json_string(st->failure) : json_null());
	json_put(o, "exit_status",
		st->exit_status < 0 ? json_null() : json_integer(st->exit_status));
	json_put(o, "cpus", json_integer(st->cpus));
	json_put(o, "memory", u64(st->memory));
}

static void put_life(json_t **o, const struct ramet_stat *st)
{
	bool reported = st->report != RAMET_REPORT_NONE;

	json_put(o, "births", u64(st->births));
	json_put(o, "age_ns", u64(now_ns() - st->born_ns));
	json_put(o, "ready_ns", u64_if(st->ready_ns, st->ready_ns - st->born_ns));
	json_put(o, "heartbeats", u64(st->heartbeats));
	json_put(o, "counter", u64(st->counter));
	json_put(o, "phase", u64(st->phase));
	json_put(o, "phase_name", phase_name(st->phase));
	json_put(o, "report", u64_if(reported, st->report));
	json_put(o, "report_gpa", u64_if(reported, st->report_gpa));
}

json_t *stat_json(const struct ramet_stat *st)
{
	json_t *o = json_object();

	put_identity(&o, st);
	put_life(&o, st);
	json_put(&o, "private_bytes", u64_if(st->counted, st->private_bytes));
	json_put(&o, "shared_bytes", u64_if(st->counted, st->shared_bytes));
	json_put(&o, "deferred_bytes", u64_if(st->counted, st->deferred_bytes));
	json_put(&o, "table_bytes", u64_if(st->counted, st->table_bytes));
	json_put(&o, "tables_shared", u64_if(st->counted, st->tables_shared));
	return o;
}

json_t *family_json(const struct ramet_family_stat *st)
{
	return json_pack(
		"{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s, s:I, s:I, s:I, s:I, s:I}",
		"vms", (json_int_t)st->vms, "shells_ready", (json_int_t)st->shells_ready,
		"generations", (json_int_t)st->generations, "pool_bytes",
		(json_int_t)st->pool_bytes, "pool_resident_bytes",
		(json_int_t)st->pool_resident_bytes, "table_bytes", (json_int_t)st->table_bytes,
		"tables", (json_int_t)st->tables, "duplicate_bytes",
		(json_int_t)st->duplicate_bytes, "headroom_bytes", (json_int_t)st->headroom_bytes,
		"headroom_of", st->headroom_of, "forks", (json_int_t)st->forks, "resets",
		(json_int_t)st->resets, "resolved_spans", (json_int_t)st->resolved_spans,
		"taken_back_spans", (json_int_t)st->taken_back_spans, "realtime_max_ns",
		(json_int_t)st->realtime_max_ns);
}

/* The value of a "Key:  123 kB" line of a file in /proc, in bytes. 0: there is no such line. */
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

	ramet_family_count(family, 0);
	ramet_family_stat_quick(family, &fs);
	ramet_vm_stat(vm, &st);
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I}", "vms", (json_int_t)fs.vms,
		"mapped_bytes", (json_int_t)st.memory, "table_bytes", (json_int_t)fs.table_bytes,
		"vm_table_bytes", (json_int_t)(st.table_bytes + st.tables_shared * PAGE),
		"host_table_bytes", (json_int_t)proc_kb("/proc/self/status", "VmPTE:"),
		"free_bytes", (json_int_t)proc_kb("/proc/meminfo", "MemAvailable:"));
}

void json_put_kernel(json_t **family, struct ramet_family *f)
{
	uint64_t bytes = 0, tables = 0;
	bool known = ramet_family_kernel(f, &bytes, &tables);

	json_put(family, "kernel_bytes", u64_if(known, bytes));
	json_put(family, "kernel_table_bytes", u64_if(known, tables));
}

void json_put(json_t **obj, const char *key, json_t *value)
{
	if (json_object_set_new(*obj, key, value)) {
		json_decref(*obj);
		*obj = NULL;
	}
}

void json_append(json_t **array, json_t *value)
{
	if (json_array_append_new(*array, value)) {
		json_decref(*array);
		*array = NULL;
	}
}

json_t *ok_json(void)
{
	return json_pack("{s:b}", "ok", 1);
}

json_t *error_json(int err, const char *fmt, ...)
{
	const char *code = strerrorname_np(err < 0 ? -err : err);
	va_list ap;
	char msg[512];

	va_start(ap, fmt);
	vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	/* A name may have been cut inside a multi-byte letter. json_pack() would refuse that as
	 * invalid UTF-8, and there would be no reply. */
	for (char *c = msg; *c; c++)
		*c = (char)(*c & 0x80 ? '?' : *c);
	return json_pack("{s:b, s:i, s:s, s:s}", "ok", 0, "errno", err < 0 ? -err : err, "code",
		code ? code : "EIO", "error", msg);
}
