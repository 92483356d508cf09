/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/lib/guest.h"

static bool ends(char c)
{
	return !c || c == ' ';
}

/* Returns what follows `key=` at s, or NULL if s has another word. */
static const char *match(const char *s, const char *key)
{
	while (*key)
		if (*s++ != *key++)
			return NULL;
	return *s == '=' ? s + 1 : NULL;
}

/* Returns the word after the one at s, or the end of the string. */
static const char *next_word(const char *s)
{
	while (!ends(*s))
		s++;
	while (*s == ' ')
		s++;
	return s;
}

static const char *first_word(const char *s)
{
	return *s == ' ' ? next_word(s) : s;
}

static _Noreturn void refuse(const char *what, const char *word)
{
	print(what);
	for (char c[2] = ""; !ends(*word); word++) {
		c[0] = *word;
		print(c);
	}
	print("\n");
	guest_exit(RAMET_EXIT_USAGE);
}

void args_check(const struct guest_machine *m, const char *const *keys)
{
	for (const char *w = first_word(m->args); *w; w = next_word(w)) {
		const char *const *key = keys;

		while (*key && !match(w, *key))
			key++;
		if (!*key)
			refuse("unknown argument ", w);
	}
}

const char *arg_string(const struct guest_machine *m, const char *key)
{
	for (const char *w = first_word(m->args); *w; w = next_word(w)) {
		const char *value = match(w, key);

		if (value)
			return value;
	}
	return NULL;
}

bool arg_is(const struct guest_machine *m, const char *key, const char *value)
{
	const char *s = arg_string(m, key);

	while (s && *value && *s == *value)
		s++, value++;
	return s && !*value && ends(*s);
}

uint64_t arg_number(const struct guest_machine *m, const char *key, uint64_t none)
{
	const char *value = arg_string(m, key), *s = value;
	uint64_t n = 0;
	unsigned shift;

	if (!value)
		return none;
	for (; *s >= '0' && *s <= '9'; s++)
		if (__builtin_mul_overflow(n, 10, &n) ||
			__builtin_add_overflow(n, (uint64_t)(*s - '0'), &n))
			refuse("number too large ", value);
	if (s == value)
		refuse("not a number ", value);
	shift = *s == 'K' ? 10 : *s == 'M' ? 20 : *s == 'G' ? 30 : 0;
	if (shift && n >> (64 - shift))
		refuse("number too large ", value);
	if (!ends(s[shift != 0]))
		refuse("not a number ", value);
	return n << shift;
}
