/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "guest/guests.h"
#include "include/ramet/ramet.h"

/* The images are in images.S, made by embed.sh from the names in meson.build. */
/* clang-format off */
#define GUESTS(X) \
	X(count, "heartbeats with a counter. rate=N: N a second (default: as fast as it goes), " \
		"beats=N: ends itself after N, with status=N (default 0)") \
	X(dirty, "dirties memory, then keeps writing to it. dirty=SIZE|all (default 1M), " \
		"fill=word|page, rate=PAGES|max a second (default 1000; 0: heartbeats only), " \
		"span=sequential|random") \
	X(verify, "writes keyed patterns, checks them in every clone. memory=SIZE (default: all, " \
		"at most 256M), pause=US between chunks (default 0)") \
	X(smp, "every vCPU counts and checks the others, under a timer tick. tick=HZ (default " \
		"100; 0: none), sleep=US between rounds (default 1000)") \
	X(state, "holds values in all registers and checks them after every fork") \
	X(strings, "string instructions to and from devices, each byte and register checked")
/* clang-format on */

#define DECLARE(name, help) extern const char guest_##name##_start[], guest_##name##_end[];
GUESTS(DECLARE)

#define ROW(name, help) { #name, help, guest_##name##_start, guest_##name##_end },
static const struct {
	const char *name, *help;
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

int guest_image(const char *name, const void **elf, size_t *len)
{
	for (size_t i = 0; i < N_GUESTS; i++)
		if (!strcmp(name, guests[i].name)) {
			*elf = guests[i].start;
			*len = (size_t)(guests[i].end - guests[i].start);
			return 0;
		}
	return -ENOENT;
}
