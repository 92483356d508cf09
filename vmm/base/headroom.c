// SPDX-License-Identifier: Apache-2.0
#include "vmm/base/headroom.h"

#include <fcntl.h>
#include <limits.h>
#include <mntent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define UNLIMITED (1ull << 62) /* this much or more means "no limit": version 1 has 2^63 - 4096 */

/* ---- finding the groups ---- */

/* Finds the mount point of the control groups that have the memory controller. */
static bool find_mount(const char *root, bool v1, char dir[PATH_MAX])
{
	char path[PATH_MAX], line[PATH_MAX];
	struct mntent entry;
	bool found = false;
	FILE *f;

	snprintf(path, sizeof(path), "%s/proc/self/mounts", root);
	f = setmntent(path, "re");
	while (f && !found && getmntent_r(f, &entry, line, sizeof(line))) {
		found = v1 ? !strcmp(entry.mnt_type, "cgroup") && hasmntopt(&entry, "memory")
			   : !strcmp(entry.mnt_type, "cgroup2");
		if (found)
			snprintf(dir, PATH_MAX, "%s%s", root, entry.mnt_dir);
	}
	if (f)
		endmntent(f);
	return found;
}

static bool names_memory(const char *controllers)
{
	size_t len = strlen("memory");

	for (const char *at = controllers; (at = strstr(at, "memory")); at += len)
		if ((at == controllers || at[-1] == ',') && (!at[len] || at[len] == ','))
			return true;
	return false;
}

/* cgroups(7), /proc/pid/cgroup: lines "hierarchy:controllers:path"; in version 2 "0::path". One of
 * the lines is for the memory controller. */
static bool find_group(const char *root, bool *v1, char group[PATH_MAX])
{
	char path[PATH_MAX], line[PATH_MAX + 256];
	bool found = false;
	FILE *f;

	*v1 = false;
	snprintf(path, sizeof(path), "%s/proc/self/cgroup", root);
	f = fopen(path, "re");
	while (f && !*v1 && fgets(line, sizeof(line), f)) {
		char *controllers = strchr(line, ':');
		char *where = controllers ? strchr(controllers + 1, ':') : NULL;

		if (!where)
			continue;
		*controllers++ = 0;
		*where++ = 0;
		where[strcspn(where, "\n")] = 0;
		*v1 = names_memory(controllers);
		if (*v1 || (!*controllers && !strcmp(line, "0"))) {
			snprintf(group, PATH_MAX, "%s", where);
			found = true;
		}
	}
	if (f)
		fclose(f);
	return found;
}

static void add_group(struct headroom *h, const char *mount, const char *name)
{
	struct headroom_group *g = &h->group[h->n];
	size_t len = strlen(name), fits = sizeof(g->name) - 1;
	char path[2 * PATH_MAX];

	if (h->n == HEADROOM_GROUPS_MAX)
		return;
	snprintf(path, sizeof(path), "%s%s", mount, name);
	g->dir = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (g->dir < 0)
		return;
	if (len > fits)
		snprintf(g->name, sizeof(g->name), "...%s", name + len - (fits - 3));
	else
		snprintf(g->name, sizeof(g->name), "%s", len ? name : "/");
	h->n++;
}

void headroom_open(struct headroom *h, const char *root)
{
	char path[PATH_MAX], mount[PATH_MAX], group[PATH_MAX];

	*h = (struct headroom){ .meminfo = -1 };
	snprintf(path, sizeof(path), "%s/proc/meminfo", root);
	h->meminfo = open(path, O_RDONLY | O_CLOEXEC);
	if (!find_group(root, &h->v1, group) || !find_mount(root, h->v1, mount))
		return;
	/* From the innermost group outward. In a container the mount may begin at our own group;
	 * then the full name of the group does not exist below the mount. */
	for (char *slash; strcmp(group, "/") != 0 && (slash = strrchr(group, '/')); *slash = 0)
		add_group(h, mount, group);
	add_group(h, mount, "");
}

void headroom_close(struct headroom *h)
{
	for (unsigned i = 0; i < h->n; i++)
		close(h->group[i].dir);
	if (h->meminfo >= 0)
		close(h->meminfo);
	*h = (struct headroom){ .meminfo = -1 };
}

/* ---- looking ---- */

static bool read_text(int fd, char *buf, size_t size)
{
	ssize_t n = fd < 0 ? -1 : pread(fd, buf, size - 1, 0);

	buf[n > 0 ? n : 0] = 0;
	return n > 0;
}

static bool read_file(int dir, const char *name, char *buf, size_t size)
{
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
	bool ok = read_text(fd, buf, size);

	if (fd >= 0)
		close(fd);
	return ok;
}

/* Returns the number after `key` at the start of a line, or 0. */
static uint64_t value_of(const char *text, const char *key)
{
	size_t len = strlen(key);

	for (const char *at = text; at; at = strchr(at, '\n')) {
		at += *at == '\n';
		if (!strncmp(at, key, len))
			return strtoull(at + len, NULL, 10);
	}
	return 0;
}

/* Returns how much is left below one limit; UINT64_MAX: there is no limit. */
static uint64_t left_of(int dir, const char *limit, const char *usage, uint64_t *max)
{
	char text[32];
	uint64_t used;

	/* The file has "max" if there is no limit. */
	if (!read_file(dir, limit, text, sizeof(text)) || text[0] < '0' || text[0] > '9')
		return UINT64_MAX;
	*max = strtoull(text, NULL, 10);
	if (*max >= UNLIMITED || !read_file(dir, usage, text, sizeof(text)))
		return UINT64_MAX;
	used = strtoull(text, NULL, 10);
	return used < *max ? *max - used : 0;
}

static uint64_t cached(const struct headroom *h, int dir)
{
	char text[8192];

	if (!read_file(dir, "memory.stat", text, sizeof(text)))
		return 0;
	return h->v1 ? value_of(text, "total_inactive_file ") + value_of(text, "total_active_file ")
		     : value_of(text, "inactive_file ") + value_of(text, "active_file ");
}

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* Version 1 has limits for memory and for the sum of memory and swap; version 2 for memory and for
 * swap. */
static uint64_t group_left(const struct headroom *h, int dir, uint64_t swap, uint64_t *limit)
{
	uint64_t left, other, other_limit;

	if (h->v1) {
		left = left_of(dir, "memory.limit_in_bytes", "memory.usage_in_bytes", limit);
		if (left == UINT64_MAX)
			return left;
		other = left_of(dir, "memory.memsw.limit_in_bytes", "memory.memsw.usage_in_bytes",
			&other_limit);
		left = least(left + swap, other);
	} else {
		left = left_of(dir, "memory.max", "memory.current", limit);
		if (left == UINT64_MAX)
			return left;
		other = left_of(dir, "memory.swap.max", "memory.swap.current", &other_limit);
		left += least(swap, other);
	}
	return left + cached(h, dir);
}

void headroom_look(const struct headroom *h, struct headroom_left *out)
{
	char text[4096];
	uint64_t swap = 0;

	*out = (struct headroom_left){ .left = UINT64_MAX, .limit = UINT64_MAX };
	strcpy(out->where, "the host");
	if (read_text(h->meminfo, text, sizeof(text))) {
		swap = value_of(text, "SwapFree:") << 10;
		out->left = (value_of(text, "MemAvailable:") << 10) + swap;
		out->limit = value_of(text, "MemTotal:") << 10;
	}
	for (unsigned i = 0; i < h->n; i++) {
		uint64_t limit = 0, left = group_left(h, h->group[i].dir, swap, &limit);

		if (left >= out->left)
			continue;
		out->left = left;
		out->limit = limit;
		snprintf(
			out->where, sizeof(out->where), "the control group '%s'", h->group[i].name);
	}
}

bool headroom_kernel(const struct headroom *h, uint64_t *bytes, uint64_t *tables)
{
	char text[8192];

	if (h->v1 || !h->n || !strcmp(h->group[0].name, "/") ||
		!read_file(h->group[0].dir, "memory.stat", text, sizeof(text)))
		return false;
	*bytes = value_of(text, "kernel ");
	*tables = value_of(text, "sec_pagetables ");
	return *bytes;
}
