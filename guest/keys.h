/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The arguments that each built-in guest knows: K(key, value, help), in the order of its help. The
 * guest gets the keys from here (GUEST_KEYS), the host its help and what it refuses before a launch
 * (guest/guests.c).
 *
 * The value is what may stand after "key=": alternatives parted by '|'. In capitals it is a number,
 * to which K, M or G may be added; a SIZE is at most the VM's memory. Others are words.
 */
#ifndef GUEST_KEYS_H
#define GUEST_KEYS_H

/* clang-format off */
#define KEYS_count(K) \
	K(rate, "N", "heartbeats a second (default: as many as it can)") \
	K(beats, "N", "ends itself after this many (default: never; 0: at once)") \
	K(status, "N", "the exit status it ends with then (default 0)")
#define KEYS_dirty(K) \
	K(dirty, "SIZE|all", "memory it writes to before it is ready (default 1M)") \
	K(fill, "word|page", "how much of each page (default word)") \
	K(rate, "PAGES|max", "pages a second after that (default 1000; 0: none)") \
	K(span, "sequential|random", "their order (default sequential)")
#define KEYS_verify(K) \
	K(memory, "SIZE", "with patterns (default: all, at most 256M)") \
	K(pause, "US", "microseconds between chunks (default 0)")
#define KEYS_smp(K) \
	K(tick, "HZ", "timer ticks a second (default 100; 0: none)") \
	K(sleep, "US", "microseconds between rounds (default 1000)")
#define KEYS_state(K) \
	K(watch, "N", "1: a debug register is armed, 0: none (default 1)") \
	K(bare, "N", "1: nothing is born or hidden: for a test of the guest (default 0)")
#define KEYS_strings(K)
/* clang-format on */

#define GUEST_KEY(key, value, help) #key,
/* Defines guest_keys of a guest. */
#define GUEST_KEYS(guest) const char *const guest_keys[] = { KEYS_##guest(GUEST_KEY) 0 }

#endif
