/* SPDX-License-Identifier: Apache-2.0 */
/* Which arguments the host passes to a built-in guest. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "guest/guests.h"
#include "include/ramet/ramet.h"

#define MEMORY (64ull << 20)

static void takes(const char *guest, const char *args)
{
	char why[320] = "";

	if (guest_args_check(guest, args, MEMORY, why, sizeof(why)))
		fail_msg("%s '%s': %s", guest, args, why);
}

static void refuses(const char *guest, const char *args, int ret, const char *because)
{
	char why[320] = "", small[8] = "";

	assert_int_equal(guest_args_check(guest, args, MEMORY, why, sizeof(why)), ret);
	assert_string_equal(why, because);
	/* No more than there is room for. */
	assert_int_equal(guest_args_check(guest, args, MEMORY, small, sizeof(small)), ret);
	assert_true(strlen(small) < sizeof(small));
}

static void test_taken(void **state)
{
	for (unsigned i = 0; ramet_guest_name(i); i++) {
		takes(ramet_guest_name(i), NULL);
		takes(ramet_guest_name(i), "");
		takes(ramet_guest_name(i), "   ");
	}
	takes("count", " rate=100  beats=1K status=3 ");
	takes("count", "rate=18446744073709551615");
	takes("dirty", "dirty=all fill=page rate=max span=random");
	takes("dirty", "dirty=64M fill=word rate=0 span=sequential");
	takes("verify", "memory=65536K pause=0");
	takes("state", "watch=0");
}

static void test_refused(void **state)
{
#define TAKES "; it takes rate=N, beats=N, status=N"
	refuses("count", "bogus=1", -EINVAL, "guest 'count' knows no 'bogus'" TAKES);
	refuses("count", "rate=5 colour=blue", -EINVAL, "guest 'count' knows no 'colour'" TAKES);
	refuses("count", "rate", -EINVAL, "guest 'count' knows no 'rate'" TAKES);
	refuses("count", "rat=1", -EINVAL, "guest 'count' knows no 'rat'" TAKES);
	refuses("count", "=1", -EINVAL, "guest 'count' knows no ''" TAKES);
	for (const char *const *bad = (const char *const[]){ "rate=", "rate=x", "rate=-1",
		     "rate=5x", "rate=1KK", "rate=max", "rate=1k", "rate=1T",
		     "rate=18446744073709551616", "rate=18446744073709551615K", NULL };
		*bad; bad++) {
		char why[320] = "";

		snprintf(why, sizeof(why), "guest 'count' does not understand '%s'" TAKES, *bad);
		refuses("count", *bad, -EINVAL, why);
	}
	refuses("dirty", "dirty=al", -EINVAL,
		"guest 'dirty' does not understand 'dirty=al'; it takes dirty=SIZE|all, "
		"fill=word|page, rate=PAGES|max, span=sequential|random");
	refuses("dirty", "fill=3", -EINVAL,
		"guest 'dirty' does not understand 'fill=3'; it takes dirty=SIZE|all, "
		"fill=word|page, rate=PAGES|max, span=sequential|random");
	refuses("dirty", "dirty=2G", -EINVAL,
		"guest 'dirty': dirty=2G is more than its memory, 64 MiB");
	refuses("verify", "memory=65537K", -EINVAL,
		"guest 'verify': memory=65537K is more than its memory, 64 MiB");
	{
		char why[320] = "";

		/* The message names all keys of the guest. */
		assert_int_equal(
			guest_args_check("counter", NULL, MEMORY, why, sizeof(why)), -ENOENT);
		for (unsigned i = 0; ramet_guest_name(i); i++)
			assert_non_null(strstr(why, ramet_guest_name(i)));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_taken),
		cmocka_unit_test(test_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
