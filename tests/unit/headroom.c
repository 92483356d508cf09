/* SPDX-License-Identifier: Apache-2.0 */
/* What is left of memory, read from trees that look like those of both versions of control groups.
 */
#include <errno.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "vmm/base/headroom.h"

#define MIB (1ull << 20)

static char root[64];

/* Writes a file below the root, and the folders it is in. */
static void put(const char *path, const char *text)
{
	char at[512];
	FILE *f;

	snprintf(at, sizeof(at), "%s/%s", root, path);
	for (char *p = at + strlen(root) + 1; (p = strchr(p, '/')); *p++ = '/') {
		*p = 0;
		assert_true(mkdir(at, 0755) == 0 || errno == EEXIST);
	}
	f = fopen(at, "w");
	assert_non_null(f);
	fputs(text, f);
	assert_int_equal(fclose(f), 0);
}

static void put_number(const char *dir, const char *name, uint64_t n)
{
	char path[256], text[32];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	snprintf(text, sizeof(text), "%llu\n", (unsigned long long)n);
	put(path, text);
}

static struct headroom_left look(void)
{
	struct headroom_left left;
	struct headroom h;

	headroom_open(&h, root);
	headroom_look(&h, &left);
	headroom_close(&h);
	return left;
}

static void assert_left(uint64_t left, uint64_t limit, const char *where)
{
	struct headroom_left now = look();

	assert_int_equal(now.left, left);
	assert_int_equal(now.limit, limit);
	assert_string_equal(now.where, where);
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	return remove(path);
}

static int make_root(void **state)
{
	strcpy(root, "/tmp/ramet-unit-headroom.XXXXXX");
	return mkdtemp(root) ? 0 : -1;
}

static int remove_root(void **state)
{
	return nftw(root, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static void put_host(unsigned available_mib, unsigned swap_mib)
{
	char text[256];

	snprintf(text, sizeof(text),
		"MemTotal: %u kB\nMemFree: 1 kB\nMemAvailable:  %u kB\nSwapFree: %u kB\n",
		4096 * 1024, available_mib * 1024, swap_mib * 1024);
	put("proc/meminfo", text);
}

static void put_v2(void)
{
	put("proc/self/mounts", "proc /proc proc rw 0 0\ncg /cg cgroup2 rw 0 0\n");
	put("proc/self/cgroup", "0::/a/b\n");
	put("cg/a/b/cgroup.procs", "");
}

static void put_v1(void)
{
	put("proc/self/mounts", "cg /cpu cgroup rw,cpu 0 0\ncg /mem cgroup rw,memory 0 0\n"
				"u /unified cgroup2 rw 0 0\n");
	put("proc/self/cgroup", "2:cpu,memoryless:/c\n3:hugetlb,memory:/a/b\n0::/u\n");
	put("mem/a/b/cgroup.procs", "");
}

/* ---- ---- */

static void test_nothing_known(void **state)
{
	assert_int_equal(look().left, UINT64_MAX);
}

static void test_host(void **state)
{
	put_host(1000, 0);
	assert_left(1000 * MIB, 4096 * MIB, "the host");
	put_host(1000, 24);
	assert_left(1024 * MIB, 4096 * MIB, "the host");
}

static void test_version_2(void **state)
{
	put_host(1000, 100);
	put_v2();
	put("cg/a/b/memory.max", "max\n");
	assert_left(1100 * MIB, 4096 * MIB, "the host");
	put_number("cg/a/b", "memory.max", 64 * MIB);
	put_number("cg/a/b", "memory.current", 60 * MIB);
	put_number("cg/a/b", "memory.swap.max", 0);
	put_number("cg/a/b", "memory.swap.current", 0);
	assert_left(4 * MIB, 64 * MIB, "the control group '/a/b'");
	put("cg/a/b/memory.stat", "anon 1\nfile 99\ninactive_file 1048576\nactive_file 2097152\n");
	assert_left(7 * MIB, 64 * MIB, "the control group '/a/b'");
	put_number("cg/a/b", "memory.swap.max", 8 * MIB);
	assert_left(15 * MIB, 64 * MIB, "the control group '/a/b'");
	/* More swap is allowed than there is. */
	put_number("cg/a/b", "memory.swap.max", 800 * MIB);
	assert_left(107 * MIB, 64 * MIB, "the control group '/a/b'");
	/* It has used more than it may have now. */
	put_number("cg/a/b", "memory.swap.max", 0);
	put_number("cg/a/b", "memory.current", 70 * MIB);
	put("cg/a/b/memory.stat", "");
	assert_left(0, 64 * MIB, "the control group '/a/b'");
	/* The one around it is as short. */
	put_number("cg/a/b", "memory.current", 10 * MIB);
	put_number("cg/a", "memory.max", 32 * MIB);
	put_number("cg/a", "memory.current", 31 * MIB);
	put_number("cg/a", "memory.swap.max", 0);
	put_number("cg/a", "memory.swap.current", 0);
	assert_left(1 * MIB, 32 * MIB, "the control group '/a'");
}

static void test_version_1(void **state)
{
	put_host(1000, 100);
	put_v1();
	put("mem/a/b/memory.limit_in_bytes", "9223372036854771712\n");
	put_number("mem/a/b", "memory.usage_in_bytes", 60 * MIB);
	assert_left(1100 * MIB, 4096 * MIB, "the host");
	put_number("mem/a/b", "memory.limit_in_bytes", 64 * MIB);
	assert_left(104 * MIB, 64 * MIB, "the control group '/a/b'");
	put_number("mem/a/b", "memory.memsw.limit_in_bytes", 72 * MIB);
	put_number("mem/a/b", "memory.memsw.usage_in_bytes", 60 * MIB);
	assert_left(12 * MIB, 64 * MIB, "the control group '/a/b'");
	put("mem/a/b/memory.stat",
		"inactive_file 5\ntotal_inactive_file 1048576\ntotal_active_file 0\n");
	assert_left(13 * MIB, 64 * MIB, "the control group '/a/b'");
}

/* A container's mount begins at its own group. */
static void test_container(void **state)
{
	put_host(1000, 0);
	put("proc/self/mounts", "cg /cg cgroup2 rw 0 0\n");
	put("proc/self/cgroup", "0::/engine/1234\n");
	put_number("cg", "memory.max", 64 * MIB);
	put_number("cg", "memory.current", 60 * MIB);
	assert_left(4 * MIB, 64 * MIB, "the control group '/'");
}

static void test_long_name(void **state)
{
	struct headroom_left now;
	char dir[200];

	put_host(1000, 0);
	put("proc/self/mounts", "cg /cg cgroup2 rw 0 0\n");
	snprintf(dir, sizeof(dir), "0::/%0100d/x\n", 0);
	put("proc/self/cgroup", dir);
	snprintf(dir, sizeof(dir), "cg/%0100d/x", 0);
	put_number(dir, "memory.max", 64 * MIB);
	put_number(dir, "memory.current", 60 * MIB);
	now = look();
	assert_int_equal(now.left, 4 * MIB);
	assert_true(strlen(now.where) < sizeof(now.where) - 1);
	assert_non_null(strstr(now.where, "'...000"));
	assert_string_equal(now.where + strlen(now.where) - 4, "0/x'");
}

static void test_nonsense(void **state)
{
	put_host(1000, 0);
	put_v2();
	put("proc/self/cgroup", "\n:\n::\n0:\n0::\nmemory\n0::../../../..\n0::x");
	assert_left(1000 * MIB, 4096 * MIB, "the host");
	put_v2();
	put("cg/a/b/memory.max", "-3");
	assert_left(1000 * MIB, 4096 * MIB, "the host");
	put("cg/a/b/memory.max", "1048576"); /* and no memory.current */
	assert_left(1000 * MIB, 4096 * MIB, "the host");
	put("cg/a/b/memory.current", "");
	assert_left(1000 * MIB, 4096 * MIB, "the host");
	put("proc/self/mounts", "");
	assert_left(1000 * MIB, 4096 * MIB, "the host");
}

static void test_here(void **state)
{
	struct headroom_left left;
	struct headroom h;

	headroom_open(&h, "");
	headroom_look(&h, &left);
	assert_in_range(left.left, 1, (uint64_t)sysconf(_SC_PHYS_PAGES) * 4096 * 64);
	assert_true(strlen(left.where) > 0);
	headroom_close(&h);
}

static void test_kernel(void **state)
{
	struct headroom h;
	uint64_t bytes, tables;

	put("proc/self/mounts", "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n");
	put("proc/self/cgroup", "0::/its/own\n");
	put("sys/fs/cgroup/its/own/memory.stat",
		"anon 5\nkernel 7000\nkernel_stack 3\npagetables 2\nsec_pagetables 4096\n");
	headroom_open(&h, root);
	assert_true(headroom_kernel(&h, &bytes, &tables));
	assert_int_equal(bytes, 7000);
	assert_int_equal(tables, 4096);
	headroom_close(&h);
	/* The root group's figures are those of the whole machine. */
	put("proc/self/cgroup", "0::/\n");
	put("sys/fs/cgroup/memory.stat", "kernel 7000\n");
	headroom_open(&h, root);
	assert_false(headroom_kernel(&h, &bytes, &tables));
	headroom_close(&h);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, make_root, remove_root)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_nothing_known),
		TEST(test_host),
		TEST(test_version_2),
		TEST(test_version_1),
		TEST(test_container),
		TEST(test_long_name),
		TEST(test_nonsense),
		TEST(test_kernel),
		cmocka_unit_test(test_here),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
