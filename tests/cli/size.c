/* SPDX-License-Identifier: Apache-2.0 */
/* Sizes and times: what is taken, what is refused, and that refusal touches nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>

#include "vmm/cli/size.h"

#define UNTOUCHED 0x5a5a5a5a5a5a5a5aull

static void takes(const char *s, uint64_t want)
{
	uint64_t v = UNTOUCHED;

	if (size_parse(s, &v) || v != want)
		fail_msg("size_parse(\"%s\") gave %llu", s, (unsigned long long)v);
}

static void refuses(const char *s, int want)
{
	uint64_t v = UNTOUCHED;
	int err = size_parse(s, &v);

	if (err != want || v != UNTOUCHED)
		fail_msg(
			"size_parse(\"%s\") returned %d, left %llx", s, err, (unsigned long long)v);
}

static void sizes(void **state)
{
	takes("0", 0);
	takes("4096", 4096);
	takes("64M", 64ull << 20);
	takes("64m", 64ull << 20);
	takes("2G", 2ull << 30);
	takes("2GiB", 2ull << 30);
	takes("2GB", 2ull << 30);
	takes("1T", 1ull << 40);
	takes("512B", 512);
	takes("007K", 7 << 10);
	takes("18446744073709551615", UINT64_MAX);
	takes("16777215T", 16777215ull << 40);
}

static void bad_sizes(void **state)
{
	static const char *const malformed[] = { "", " 1", "1 ", "-1", "+1", "M", "1X", "1MM",
		"1Mi", "1.5G", "0x10", "1,5", "1MiBs", "G1", "\xc2\xb2" };

	for (size_t i = 0; i < sizeof(malformed) / sizeof(malformed[0]); i++)
		refuses(malformed[i], -EINVAL);
	refuses("18446744073709551616", -ERANGE);
	refuses("16777216T", -ERANGE);
	refuses("99999999999999999999999999G", -ERANGE);
}

static void lists(void **state)
{
	uint64_t v[3] = { 1, 1, 1 };
	unsigned n = 9;

	assert_int_equal(size_list_parse("64M,1G", v, 3, &n), 0);
	assert_int_equal(n, 2);
	assert_int_equal(v[1], 1ull << 30);
	assert_int_equal(size_list_parse("1,2,3,4", v, 3, &n), -E2BIG);
	assert_int_equal(size_list_parse("7,", v, 3, &n), -EINVAL);
	assert_int_equal(size_list_parse(",7", v, 3, &n), -EINVAL);
	assert_int_equal(size_list_parse("", v, 3, &n), -EINVAL);
	assert_int_equal(size_list_parse("7,99999999999999999999", v, 3, &n), -ERANGE);
	assert_int_equal(
		size_list_parse("7,000000000000000000000000000000000000001", v, 3, &n), -EINVAL);
	assert_int_equal(n, 2);
	assert_int_equal(v[0], 64ull << 20);
}

static void addresses(void **state)
{
	uint64_t v = UNTOUCHED;

	assert_int_equal(gpa_parse("0x", &v), -EINVAL);
	assert_int_equal(gpa_parse("0x1g", &v), -EINVAL);
	assert_int_equal(gpa_parse("0x10000000000000000", &v), -ERANGE);
	assert_true(v == UNTOUCHED);
	assert_int_equal(gpa_parse("0xFFFFFFFFFFFFFFFF", &v), 0);
	assert_true(v == UINT64_MAX);
	assert_int_equal(gpa_parse("0X1a", &v), 0);
	assert_int_equal(v, 0x1a);
	assert_int_equal(gpa_parse("1M", &v), 0);
	assert_int_equal(v, 1 << 20);
}

static void numbers(void **state)
{
	uint64_t v = UNTOUCHED;

	assert_int_equal(number_parse("0", 1, 8, &v), -ERANGE);
	assert_int_equal(number_parse("9", 1, 8, &v), -ERANGE);
	assert_int_equal(number_parse("8x", 1, 8, &v), -EINVAL);
	assert_int_equal(number_parse("8K", 1, 8192, &v), -EINVAL);
	assert_true(v == UNTOUCHED);
	assert_int_equal(number_parse("8", 1, 8, &v), 0);
	assert_int_equal(v, 8);
}

static void texts(void **state)
{
	char buf[SIZE_TEXT];

	assert_string_equal(size_format(0, buf), "0");
	assert_string_equal(size_format(1023, buf), "1023");
	assert_string_equal(size_format(4096, buf), "4K");
	assert_string_equal(size_format(3ull << 29, buf), "1.5G");
	assert_string_equal(size_format(UINT64_MAX, buf), "16777216.0T");
	assert_string_equal(time_format(999, buf), "999 ns");
	assert_string_equal(time_format(12345, buf), "12.3 us");
	assert_string_equal(time_format(1500000, buf), "1.50 ms");
	assert_string_equal(time_format(90000000000ull, buf), "90 s");
	assert_string_equal(time_format(UINT64_MAX, buf), "5124096 h");
}

static void test_seconds(void **state)
{
	static const char *const bad[] = { "", ".", ".5", "5.", "-1", "1.2345", "1,5", "1e3", "1 ",
		"0x1", "1..2", "inf" };
	uint64_t ms = 7;

	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(seconds_parse(bad[i], UINT64_MAX, &ms), -EINVAL);
	assert_int_equal(seconds_parse("18446744073709551616", UINT64_MAX, &ms), -ERANGE);
	assert_int_equal(seconds_parse("18446744073709551.616", UINT64_MAX, &ms), -ERANGE);
	assert_int_equal(seconds_parse("10.001", 10000, &ms), -ERANGE);
	assert_int_equal(ms, 7);
	assert_int_equal(seconds_parse("10", 10000, &ms), 0);
	assert_int_equal(ms, 10000);
	assert_int_equal(seconds_parse("0.5", 10000, &ms), 0);
	assert_int_equal(ms, 500);
	assert_int_equal(seconds_parse("0.050", 10000, &ms), 0);
	assert_int_equal(ms, 50);
	assert_int_equal(seconds_parse("3.25", 10000, &ms), 0);
	assert_int_equal(ms, 3250);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_seconds),
		cmocka_unit_test(sizes),
		cmocka_unit_test(bad_sizes),
		cmocka_unit_test(lists),
		cmocka_unit_test(addresses),
		cmocka_unit_test(numbers),
		cmocka_unit_test(texts),
	};

	return cmocka_run_group_tests_name("size", tests, NULL, NULL);
}
