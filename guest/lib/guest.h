/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a freestanding guest has: its machine, its arguments, the doorbell, the serial port and, on
 * request, a timer tick. Everything here runs in ring 3.
 *
 * Memory is identity-mapped. A guest defines guest_keys and guest_main().
 */
#ifndef GUEST_GUEST_H
#define GUEST_GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "guest/keys.h"
#include "guest/lib/layout.h"
#include "ramet/abi.h"

#define GUEST_PAGE 4096u

struct guest_range {
	uint64_t gpa, len;
};

struct guest_machine {
	struct guest_range ram[4]; /* all RAM */
	unsigned n_ram;
	unsigned cpus;
	const char *args; /* KEY=VALUE words; never NULL */
};

/* The argument keys this guest knows (GUEST_KEYS), ended by NULL; another key ends it with status
 * 2. */
extern const char *const guest_keys[];
/* Called on every vCPU, 0-based, on a stack of its own. It need not return. */
void guest_main(const struct guest_machine *m, unsigned cpu);

/*
 * Reads the flattened device tree (Devicetree Specification 0.4, chapter 5) in RAMET_FDT_MAX bytes
 * at fdt. False: malformed.
 */
bool fdt_read(const void *fdt, struct guest_machine *m);

/* Ends the guest when an argument is not one of keys, a list that ends with NULL. */
void args_check(const struct guest_machine *m, const char *const *keys);
/* The value of `key`, ended by a blank or the end of the string, or NULL. */
const char *arg_string(const struct guest_machine *m, const char *key);
/* True when key's value is exactly `value`. */
bool arg_is(const struct guest_machine *m, const char *key, const char *value);
/* A number, with K, M or G; `none` without such an argument. A malformed one ends the guest. */
uint64_t arg_number(const struct guest_machine *m, const char *key, uint64_t none);

/* Free RAM, the pages above the image, as one array: how many there are, and where number i is. */
uint64_t free_pages(const struct guest_machine *m);
uint64_t *free_page(const struct guest_machine *m, uint64_t i);

/* The doorbell. */
void db_write(uint16_t reg, uint32_t value);
uint32_t db_read(uint16_t reg);
void guest_report(uint32_t code, uint64_t address);
_Noreturn void guest_exit(int status);
_Noreturn void guest_fail(uint32_t code, uint64_t address); /* reports, exits with 1 */
void guest_sleep(uint64_t us);
_Noreturn void guest_park(void); /* sleeps for ever */

void print(const char *s);
void print_hex(const char *what, uint64_t value); /* and a new line */

/* A tick of hz a second on this vCPU, counted in guest_ticks[]. */
struct guest_tick {
	volatile uint64_t n;
	char pad[GUEST_TICK_STRIDE - 8];
};
extern struct guest_tick guest_ticks[GUEST_CPUS];
void tick_start(unsigned hz);

/*
 * Ring 0, for a guest that needs it; it defines both. KVM may interpret ring 0: few and plain
 * instructions, and compiled with GUEST_RING0. The first is called once on every vCPU before
 * guest_main(), the second by service(); their kernel stacks are half a KiB.
 */
#define GUEST_RING0 __attribute__((target("general-regs-only")))
void guest_ring0_init(void);
void guest_ring0_service(uint64_t a, uint64_t b);
static inline void service(uint64_t a, uint64_t b)
{
	__asm__ volatile("int3" : : "D"(a), "S"(b) : "memory");
}

/* A 64-bit mixing function (Steele, Lea, Flood: SplitMix64, OOPSLA 2014). */
static inline uint64_t mix64(uint64_t x)
{
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
	return x ^ (x >> 31);
}

/* Pseudo-random numbers, good enough to scatter accesses. */
static inline uint64_t random64(uint64_t *state)
{
	return mix64(*state += 0x9e3779b97f4a7c15ull);
}

#endif
