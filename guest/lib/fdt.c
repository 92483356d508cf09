/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/lib/guest.h"

enum { FDT_BEGIN_NODE = 1, FDT_END_NODE, FDT_PROP, FDT_NOP, FDT_END = 9 };
enum { OFF_MAGIC = 0, OFF_STRUCT = 8, OFF_STRINGS = 12 };
#define FDT_MAGIC 0xd00dfeedu

/* Strings are compared with constants shorter than this. A string must begin at least this far from
 * the end of the tree, so that no comparison reads past it. */
#define NAME_MAX 16u

static uint32_t be32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static uint64_t be64(const uint8_t *p)
{
	return (uint64_t)be32(p) << 32 | be32(p + 4);
}

static bool starts(const char *s, const char *prefix)
{
	while (*prefix)
		if (*s++ != *prefix++)
			return false;
	return true;
}

static bool same(const char *a, const char *b)
{
	while (*a && *a == *b)
		a++, b++;
	return *a == *b;
}

/* Handles one property of node `name`, `depth` levels below the root. */
static void property(struct guest_machine *m, const char *name, int depth, const char *prop,
	const uint8_t *value, uint32_t len)
{
	if (depth == 1 && starts(name, "memory@") && same(prop, "reg"))
		for (; len >= 16 && m->n_ram < 4; len -= 16, value += 16)
			m->ram[m->n_ram++] = (struct guest_range){ be64(value), be64(value + 8) };
	else if (depth == 2 && starts(name, "cpu@") && same(prop, "reg"))
		m->cpus++;
	else if (depth == 1 && same(name, "chosen") && same(prop, "bootargs") && len &&
		 !value[len - 1])
		m->args = (const char *)value;
}

bool fdt_read(const void *fdt, struct guest_machine *m)
{
	const uint8_t *base = fdt, *end = base + RAMET_FDT_MAX - NAME_MAX, *p;
	const char *name = "";
	uint64_t strings;
	int depth = -1;

	*m = (struct guest_machine){ .args = "" };
	strings = be32(base + OFF_STRINGS);
	if (be32(base + OFF_MAGIC) != FDT_MAGIC || be32(base + OFF_STRUCT) > RAMET_FDT_MAX)
		return false;
	for (p = base + be32(base + OFF_STRUCT); p + 12 <= end;) {
		uint32_t token = be32(p), len;

		p += 4;
		switch (token) {
		case FDT_BEGIN_NODE:
			depth++;
			name = (const char *)p;
			while (p < end && *p)
				p++;
			p += 4 - ((p - base) & 3); /* skip the NUL and align to 4 */
			break;
		case FDT_END_NODE:
			depth--;
			break;
		case FDT_PROP:
			len = be32(p);
			if (len > (uint64_t)(end - p - 8) ||
				strings + be32(p + 4) > RAMET_FDT_MAX - NAME_MAX)
				return false;
			property(m, name, depth, (const char *)base + strings + be32(p + 4), p + 8,
				len);
			p += 8 + ((len + 3) & ~3u);
			break;
		case FDT_NOP:
			break;
		case FDT_END:
			return m->n_ram && m->cpus;
		default:
			return false;
		}
	}
	return false;
}
