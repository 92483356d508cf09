/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/cli/size.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

/* Reads digits of `base` from s on. Returns their end, or NULL: there is no digit, or see *err. */
static const char *digits(const char *s, unsigned base, uint64_t *out, int *err)
{
	uint64_t v = 0;
	const char *p = s;

	*err = -EINVAL;
	for (;; p++) {
		unsigned d;

		if (*p >= '0' && *p <= '9')
			d = (unsigned)(*p - '0');
		else if (base == 16 && (*p | 32) >= 'a' && (*p | 32) <= 'f')
			d = (unsigned)((*p | 32) - 'a') + 10;
		else
			break;
		if (__builtin_mul_overflow(v, base, &v) || __builtin_add_overflow(v, d, &v)) {
			*err = -ERANGE;
			return NULL;
		}
	}
	if (p == s)
		return NULL;
	*out = v;
	return p;
}

/* Returns the shift for a suffix, or -1. */
static int suffix_shift(const char *s)
{
	static const char units[] = "KMGT";
	const char *u;

	if (!*s || !strcasecmp(s, "B"))
		return 0;
	u = memchr(units, *s & ~32, 4);
	if (!u || (s[1] && strcasecmp(s + 1, "B") && strcasecmp(s + 1, "iB")))
		return -1;
	return 10 * (int)(u - units + 1);
}

int size_parse(const char *s, uint64_t *out)
{
	uint64_t v;
	int err, shift;
	const char *end = digits(s, 10, &v, &err);

	if (!end)
		return err;
	shift = suffix_shift(end);
	if (shift < 0)
		return -EINVAL;
	if (v > UINT64_MAX >> shift)
		return -ERANGE;
	*out = v << shift;
	return 0;
}

int size_list_parse(const char *s, uint64_t *out, unsigned max, unsigned *n)
{
	uint64_t parsed[64];
	unsigned count = 0;

	if (max > 64)
		max = 64;
	for (;; s++) {
		char item[32];
		size_t len = strcspn(s, ",");
		int err;

		if (len >= sizeof(item))
			return -EINVAL;
		if (count == max)
			return -E2BIG;
		memcpy(item, s, len);
		item[len] = '\0';
		err = size_parse(item, &parsed[count]);
		if (err)
			return err;
		count++;
		s += len;
		if (!*s)
			break;
	}
	memcpy(out, parsed, count * sizeof(*out));
	*n = count;
	return 0;
}

int gpa_parse(const char *s, uint64_t *out)
{
	uint64_t v;
	int err;
	const char *end;

	if (s[0] != '0' || (s[1] | 32) != 'x')
		return size_parse(s, out);
	end = digits(s + 2, 16, &v, &err);
	if (!end)
		return err;
	if (*end)
		return -EINVAL;
	*out = v;
	return 0;
}

int number_parse(const char *s, uint64_t min, uint64_t max, uint64_t *out)
{
	uint64_t v;
	int err;
	const char *end = digits(s, 10, &v, &err);

	if (!end)
		return err;
	if (*end)
		return -EINVAL;
	if (v < min || v > max)
		return -ERANGE;
	*out = v;
	return 0;
}

int seconds_parse(const char *s, uint64_t max, uint64_t *ms)
{
	uint64_t v, fraction = 0;
	int err;
	const char *point, *end = digits(s, 10, &v, &err);

	if (!end)
		return err;
	if (*end == '.') {
		static const unsigned scale[] = { 0, 100, 10, 1 };

		point = end;
		end = digits(point + 1, 10, &fraction, &err);
		if (!end || end - point > 4)
			return -EINVAL;
		fraction *= scale[end - point - 1];
	}
	if (*end)
		return -EINVAL;
	if (__builtin_mul_overflow(v, 1000, &v) || __builtin_add_overflow(v, fraction, &v) ||
		v > max)
		return -ERANGE;
	*ms = v;
	return 0;
}

char *size_format(uint64_t bytes, char buf[SIZE_TEXT])
{
	static const char units[] = " KMGT";
	unsigned u = 0;
	uint64_t unit = 1;

	while (u < 4 && bytes / 1024 >= unit) {
		unit *= 1024;
		u++;
	}
	if (bytes % unit == 0)
		snprintf(buf, SIZE_TEXT, "%" PRIu64 "%.*s", bytes / unit, u > 0, &units[u]);
	else
		snprintf(
			buf, SIZE_TEXT, "%.1f%.*s", (double)bytes / (double)unit, u > 0, &units[u]);
	return buf;
}

char *time_format(uint64_t ns, char buf[SIZE_TEXT])
{
	double v = (double)ns;

	if (ns < 1000)
		snprintf(buf, SIZE_TEXT, "%" PRIu64 " ns", ns);
	else if (ns < 1000 * 1000)
		snprintf(buf, SIZE_TEXT, "%.*f us", v < 1e5 ? 1 : 0, v / 1e3);
	else if (ns < 1000ull * 1000 * 1000)
		snprintf(buf, SIZE_TEXT, "%.*f ms", v < 1e8 ? 2 : 0, v / 1e6);
	else if (v < 120e9)
		snprintf(buf, SIZE_TEXT, "%.*f s", v < 10e9 ? 1 : 0, v / 1e9);
	else if (v < 7200e9)
		snprintf(buf, SIZE_TEXT, "%.0f min", v / 60e9);
	else
		snprintf(buf, SIZE_TEXT, "%.0f h", v / 3600e9);
	return buf;
}
