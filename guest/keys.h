/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The arguments of each built-in guest: K(key, value, help), in the order of the help text. The
 * guest uses the keys (GUEST_KEYS). The host uses all three, for its help and to check arguments
 * before a launch (guest/guests.c).
 *
 * `value` lists what may follow "key=": alternatives, separated by '|'. An alternative in capitals
 * is a number, perhaps with K, M or G; a SIZE is at most the VM's memory. All others are words.
 */
#ifndef GUEST_KEYS_H
#define GUEST_KEYS_H

/* clang-format off */
#define KEYS_count(K) \
	K(rate, "N", "heartbeats per second (default: as many as possible)") \
	K(beats, "N", "ends after this many heartbeats (default: never; 0: at once)") \
	K(status, "N", "its exit status then (default 0)")
#define KEYS_dirty(K) \
	K(dirty, "SIZE|all", "memory that it writes to before it is ready (default 1M)") \
	K(fill, "word|page", "how much of each page it writes (default word)") \
	K(rate, "PAGES|max", "pages that it writes per second after that (default 1000; 0: none)") \
	K(span, "sequential|random", "the order of these pages (default sequential)")
#define KEYS_verify(K) \
	K(memory, "SIZE", "memory that it fills with patterns (default: all, at most 256M)") \
	K(pause, "US", "microseconds between chunks (default 0)")
#define KEYS_smp(K) \
	K(tick, "HZ", "timer ticks per second (default 100; 0: none)") \
	K(sleep, "US", "microseconds between rounds (default 1000)")
#define KEYS_state(K) \
	K(watch, "N", "1: arm a debug register, 0: do not (default 1)") \
	K(bare, "N", "1: there are no births and nothing is hidden: to test the guest (default 0)")
#define KEYS_strings(K)
/* clang-format on */

#define GUEST_KEY(key, value, help) #key,
/* Defines guest_keys for a guest. */
#define GUEST_KEYS(guest) const char *const guest_keys[] = { KEYS_##guest(GUEST_KEY) 0 }

#endif
