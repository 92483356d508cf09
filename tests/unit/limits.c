/* SPDX-License-Identifier: Apache-2.0 */
/* Whether much work will meet a limit, and what the user is told. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/resource.h>
#include <cmocka.h>

#include "vmm/base/limits.h"

static void test_enough(void **state)
{
	const struct needs little = { 1, 1, 1 };
	char why[200] = "";

	assert_int_equal(limits_check(&little, why, sizeof(why)), 0);
	assert_string_equal(why, "");
}

static void test_descriptors(void **state)
{
	const struct needs most = { .fds = 61 }, more = { .fds = 100 };
	struct rlimit was, few;
	char why[200];

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &was), 0);
	few = was;
	few.rlim_cur = 100;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	assert_int_equal(limits_check(&most, why, sizeof(why)), 0);
	assert_int_equal(limits_check(&more, why, sizeof(why)), -EMFILE);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &was), 0);
	assert_non_null(strstr(why, "100 more open files"));
	assert_non_null(strstr(why, "the limit is 100 (ulimit -n)"));
}

static void test_mappings_and_threads(void **state)
{
	const struct needs maps = { .maps = 1ull << 40 }, threads = { .threads = 1ull << 40 };
	char why[200];

	assert_int_equal(limits_check(&maps, why, sizeof(why)), -ENOMEM);
	assert_non_null(strstr(why, "vm.max_map_count"));
	assert_int_equal(limits_check(&threads, why, sizeof(why)), -EAGAIN);
	assert_non_null(strstr(why, "threads"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_enough),
		cmocka_unit_test(test_descriptors),
		cmocka_unit_test(test_mappings_and_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
