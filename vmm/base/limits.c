// SPDX-License-Identifier: Apache-2.0
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "vmm/base/limits.h"

static bool limited(__rlimit_resource_t which)
{
	struct rlimit l;

	return !getrlimit(which, &l) && l.rlim_cur != RLIM_INFINITY;
}

const char *limit_hint(int error)
{
	switch (error) {
	case -ENOMEM:
		return limited(RLIMIT_AS)
			       ? "; the address space of this process is limited (ulimit -v): a "
				 "family reserves some TiB of it"
			       : "";
	case -EFBIG:
		return limited(RLIMIT_FSIZE)
			       ? "; the size of files is limited (ulimit -f): guest memory is "
				 "in one"
			       : "";
	case -EMFILE:
	case -ENFILE:
		return "; raise the limit of open files (ulimit -n): a VM takes one and one per "
		       "vCPU";
	case -EAGAIN:
		return "; the limit of threads is reached (ulimit -u)";
	default:
		return "";
	}
}

/* ---- before much work ---- */

/* The number in a file that holds one. UINT64_MAX: there is none ("max"), or no such file. */
static uint64_t number_in(const char *path)
{
	FILE *f = fopen(path, "re");
	uint64_t n = UINT64_MAX;

	if (f && fscanf(f, "%" SCNu64, &n) != 1)
		n = UINT64_MAX;
	if (f)
		fclose(f);
	return n;
}

/* The number of open descriptors. The folder has also ".", ".." and its own descriptor. */
static uint64_t fds_now(void)
{
	DIR *dir = opendir("/proc/self/fd");
	uint64_t n = 0;

	while (dir && readdir(dir))
		n++;
	if (dir)
		closedir(dir);
	return n > 3 ? n - 3 : 0;
}

static uint64_t lines_in(const char *path)
{
	FILE *f = fopen(path, "re");
	char buf[4096];
	uint64_t n = 0;
	size_t len;

	while (f && (len = fread(buf, 1, sizeof(buf), f)))
		for (size_t i = 0; i < len; i++)
			n += buf[i] == '\n';
	if (f)
		fclose(f);
	return n;
}

/* Threads of the whole machine: the fourth field of /proc/loadavg is "running/all". */
static uint64_t threads_now(void)
{
	FILE *f = fopen("/proc/loadavg", "re");
	uint64_t n = 0;

	if (f && fscanf(f, "%*f %*f %*f %*u/%" SCNu64, &n) != 1)
		n = 0;
	if (f)
		fclose(f);
	return n;
}

/* A file of the process's control group, in version 2 of control groups. */
static uint64_t number_in_group(const char *file)
{
	char path[512], group[256] = "";
	FILE *f = fopen("/proc/self/cgroup", "re");

	if (f && fscanf(f, "0::%255s", group) != 1)
		group[0] = '\0';
	if (f)
		fclose(f);
	snprintf(path, sizeof(path), "/sys/fs/cgroup%s/%s", group, file);
	return number_in(path);
}

static bool exceeds(uint64_t now, uint64_t more, uint64_t limit)
{
	return limit != UINT64_MAX && now + more > limit;
}

static int too_many(int error, char *why, size_t len, const char *what, uint64_t now, uint64_t more,
	uint64_t limit, const char *how)
{
	snprintf(why, len,
		"it needs %" PRIu64 " more %s, but there are %" PRIu64 " and the limit is %" PRIu64
		" (%s)",
		more, what, now, limit, how);
	return error;
}

static int check_threads(uint64_t more, char *why, size_t len)
{
	static const char *const files[] = { "/proc/sys/kernel/threads-max",
		"/proc/sys/kernel/pid_max" };
	uint64_t now = threads_now(), group = number_in_group("pids.max"),
		 in_group = number_in_group("pids.current");

	for (unsigned i = 0; i < sizeof(files) / sizeof(files[0]); i++)
		if (exceeds(now, more, number_in(files[i])))
			return too_many(-EAGAIN, why, len, "threads", now, more,
				number_in(files[i]), files[i]);
	if (in_group != UINT64_MAX && exceeds(in_group, more, group))
		return too_many(-EAGAIN, why, len, "threads", in_group, more, group,
			"pids.max of the control group");
	return 0;
}

int limits_check(const struct needs *more, char *why, size_t len)
{
	struct rlimit fds = { RLIM_INFINITY, RLIM_INFINITY };
	uint64_t now = fds_now(), maps = lines_in("/proc/self/maps"),
		 most = number_in("/proc/sys/vm/max_map_count");

	getrlimit(RLIMIT_NOFILE, &fds);
	if (fds.rlim_cur != RLIM_INFINITY && exceeds(now, more->fds, fds.rlim_cur))
		return too_many(
			-EMFILE, why, len, "open files", now, more->fds, fds.rlim_cur, "ulimit -n");
	if (exceeds(maps, more->maps, most))
		return too_many(-ENOMEM, why, len, "mappings", maps, more->maps, most,
			"sysctl vm.max_map_count");
	return check_threads(more->threads, why, len);
}
