/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The library of freestanding guests: the machine's description, arguments, the doorbell, the
 * serial port and, on request, a timer tick. All of it runs in ring 3.
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

/* The argument keys that this guest accepts (GUEST_KEYS), ended by NULL. Any other key ends the
 * guest with status 2. */
extern const char *const guest_keys[];
/* Called on every vCPU, on a stack of its own; vCPUs are numbered from 0. It need not return. */
void guest_main(const struct guest_machine *m, unsigned cpu);

/*
 * Reads the flattened device tree (Devicetree Specification 0.4, chapter 5) in the RAMET_FDT_MAX
 * bytes at fdt. False: it is malformed.
 */
bool fdt_read(const void *fdt, struct guest_machine *m);

/* Ends the guest if the key of an argument is not in keys, a list that ends with NULL. */
void args_check(const struct guest_machine *m, const char *const *keys);
/* Returns the value of `key`, ended by a blank or the end of the string, or NULL. */
const char *arg_string(const struct guest_machine *m, const char *key);
/* True if key's value is exactly `value`. */
bool arg_is(const struct guest_machine *m, const char *key, const char *value);
/* Returns a number, perhaps with K, M or G; `none` if there is no such argument. A malformed number
 * ends the guest. */
uint64_t arg_number(const struct guest_machine *m, const char *key, uint64_t none);

/* Free RAM is the pages above the image, as one array: the number of pages, and page i. */
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
void print_hex(const char *what, uint64_t value); /* ends the line */

/* Starts a timer with hz ticks per second on this vCPU; guest_ticks[] counts them. */
struct guest_tick {
	volatile uint64_t n;
	char pad[GUEST_TICK_STRIDE - 8];
};
extern struct guest_tick guest_ticks[GUEST_CPUS];
void tick_start(unsigned hz);

/*
 * Ring 0, for a guest that needs it. Such a guest defines both functions, with GUEST_RING0. KVM may
 * interpret ring 0, so they should use few and simple instructions. guest_ring0_init() is called
 * once on every vCPU before guest_main(), guest_ring0_service() by service(). Their kernel stacks
 * have half a KiB.
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
