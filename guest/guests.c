/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/guests.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "guest/keys.h"
#include "include/ramet/ramet.h"

/* The images are in images.S, made by embed.sh from the names in meson.build. */
/* clang-format off */
#define GUESTS(X) \
	X(count, "heartbeats with a counter") \
	X(dirty, "dirties memory, then keeps writing to it") \
	X(verify, "writes keyed patterns, and checks them in every clone") \
	X(smp, "every vCPU counts and checks the others, under a timer tick") \
	X(state, "holds values in all registers and checks them after every fork") \
	X(strings, "string instructions to and from devices, each byte and register checked")
/* clang-format on */

struct key {
	const char *name, *value; /* see guest/keys.h */
};

#define KEY(key, value, help)	   { #key, value },
#define KEY_HELP(key, value, help) "\n      " #key "=" value ": " help

#define DECLARE(name, help)                                             \
	extern const char guest_##name##_start[], guest_##name##_end[]; \
	static const struct key keys_##name[] = { KEYS_##name(KEY){ 0 } };
GUESTS(DECLARE)

#define ROW(name, help)                                                         \
	{ #name, help KEYS_##name(KEY_HELP), keys_##name, guest_##name##_start, \
		guest_##name##_end },
static const struct guest {
	const char *name, *help;
	const struct key *keys;
	const char *start, *end;
} guests[] = { GUESTS(ROW) };

#define N_GUESTS (sizeof(guests) / sizeof(guests[0]))

const char *ramet_guest_name(unsigned i)
{
	return i < N_GUESTS ? guests[i].name : NULL;
}

const char *ramet_guest_help(unsigned i)
{
	return i < N_GUESTS ? guests[i].help : NULL;
}

static const struct guest *find(const char *name)
{
	for (size_t i = 0; i < N_GUESTS; i++)
		if (!strcmp(name, guests[i].name))
			return &guests[i];
	return NULL;
}

int guest_image(const char *name, const void **elf, size_t *len)
{
	const struct guest *g = find(name);

	if (!g)
		return -ENOENT;
	*elf = g->start;
	*len = (size_t)(g->end - g->start);
	return 0;
}

/* ---- arguments, with the same syntax as in guest/lib/args.c ---- */

static const struct key *find_key(const struct guest *g, const char *word, size_t len)
{
	const char *eq = memchr(word, '=', len);
	const struct key *k;

	for (k = g->keys; k->name; k++)
		if (eq && strlen(k->name) == (size_t)(eq - word) &&
			!memcmp(k->name, word, (size_t)(eq - word)))
			return k;
	return NULL;
}

/* Reads decimal digits, followed by at most one of K, M and G. */
static bool number(const char *s, size_t len, uint64_t *out)
{
	uint64_t v = 0;
	size_t i;
	unsigned shift;

	for (i = 0; i < len && s[i] >= '0' && s[i] <= '9'; i++)
		if (__builtin_mul_overflow(v, 10, &v) ||
			__builtin_add_overflow(v, (uint64_t)(s[i] - '0'), &v))
			return false;
	if (!i)
		return false;
	shift = i == len ? 0 : s[i] == 'K' ? 10 : s[i] == 'M' ? 20 : s[i] == 'G' ? 30 : 64;
	if (shift == 64 || i + (shift != 0) != len || v > UINT64_MAX >> shift)
		return false;
	*out = v << shift;
	return true;
}

/* True if the key accepts the value. *size: the value is a SIZE, of *v bytes. */
static bool takes(const struct key *k, const char *s, size_t len, bool *size, uint64_t *v)
{
	const char *alternative = k->value;

	*size = false;
	for (;;) {
		size_t n = strcspn(alternative, "|");
		bool capitals = *alternative >= 'A' && *alternative <= 'Z';

		if (capitals && number(s, len, v)) {
			*size = !strncmp(alternative, "SIZE", n);
			return true;
		}
		if (!capitals && n == len && !memcmp(alternative, s, n))
			return true;
		if (!alternative[n])
			return false;
		alternative += n + 1;
	}
}

static void say_keys(const struct guest *g, char *why, size_t size)
{
	for (const struct key *k = g->keys; k->name; k++) {
		size_t n = strlen(why);

		snprintf(why + n, size - n, "%s%s=%s", k == g->keys ? "; it takes " : ", ", k->name,
			k->value);
	}
}

static int word_check(const struct guest *g, const char *word, size_t len, uint64_t memory,
	char *why, size_t size)
{
	const struct key *k = find_key(g, word, len);
	int shown = len < 64 ? (int)len : 64;
	size_t skip = k ? strlen(k->name) + 1 : 0;
	bool is_size;
	uint64_t v;

	if (!k) {
		snprintf(why, size, "guest '%s' knows no '%.*s'", g->name,
			(int)strcspn(word, "= ") < shown ? (int)strcspn(word, "= ") : shown, word);
		say_keys(g, why, size);
		return -EINVAL;
	}
	if (!takes(k, word + skip, len - skip, &is_size, &v)) {
		snprintf(why, size, "guest '%s' does not understand '%.*s'", g->name, shown, word);
		say_keys(g, why, size);
		return -EINVAL;
	}
	if (is_size && v > memory) {
		snprintf(why, size, "guest '%s': %.*s is more than its memory, %llu MiB", g->name,
			shown, word, (unsigned long long)(memory >> 20));
		return -EINVAL;
	}
	return 0;
}

int guest_args_check(const char *name, const char *args, uint64_t memory, char *why, size_t size)
{
	const struct guest *g = find(name);
	int ret = 0;

	if (!g) {
		snprintf(why, size, "there is no built-in guest '%.64s'", name);
		for (size_t i = 0; i < N_GUESTS; i++) {
			size_t n = strlen(why);

			snprintf(why + n, size - n, "%s%s",
				i == 0		   ? "; take "
				: i + 1 < N_GUESTS ? ", "
						   : " or ",
				guests[i].name);
		}
		return -ENOENT;
	}
	while (args && *args && !ret) {
		size_t len = strcspn(args, " ");

		if (len)
			ret = word_check(g, args, len, memory, why, size);
		args += len + (args[len] == ' ');
	}
	return ret;
}
