/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verify: checks that a VM sees exactly its own memory.
 *
 * Every page holds a pattern made from a key and the page's address. keys[] has the key of each
 * page, `sum` the xor of a hash of all keys. A page of another VM, or of another moment of this VM,
 * has the pattern of another key. It is found unless the matching parts of keys[] and `sum` came
 * with it.
 *
 * The guest notices when its VM was born again (a fork, a reset). This may happen at any point of
 * its work, since a fork takes keys[], pages and registers at the same moment. Then it starts a new
 * life: it checks all that it inherited, writes some or all of it with keys of this life, and
 * checks again, for ever. Place and size of its writes are random, so that the private pages of
 * clones of clones lie in many patterns.
 */
#include "guest/lib/guest.h"

#define CHUNK	    64		     /* pages between two reads of the generation */
#define RUN_MAX	    1024u	     /* maximum number of pages in one run of writes */
#define CHECK_EVERY 16		     /* runs between two checks of all memory */
#define MEMORY_MAX  (256ull << 20)   /* without the argument `memory` */
#define PER_PAGE    (GUEST_PAGE / 8) /* words per page */

GUEST_KEYS(verify);

static struct {
	const struct guest_machine *m;
	uint64_t pages;	    /* number of pages with a pattern; they follow the pages of keys[] */
	uint64_t key_pages; /* number of pages of keys[], the first free pages */
	uint64_t sum;
	uint64_t pause; /* us after each chunk */
	uint64_t seed;
	uint32_t life; /* the generation that it knows of */
	uint32_t beats;
	bool written; /* all of the memory has been written at least once */
} v;

static uint64_t *key_of(uint64_t page)
{
	return free_page(v.m, page / PER_PAGE) + page % PER_PAGE;
}

/* Key 0 means that the page was never written: all of its words are zero. */
static uint64_t pattern(uint64_t key, const uint64_t *word)
{
	return key ? key ^ ((uint64_t)word * 0x9e3779b97f4a7c15ull) : 0;
}

static uint64_t key_hash(uint64_t key, uint64_t page)
{
	return key ? mix64(key + page) : 0;
}

static void write_page(uint64_t page)
{
	uint64_t *word = free_page(v.m, v.key_pages + page), *key = key_of(page);
	uint64_t new_key = random64(&v.seed) | 1;

	v.sum ^= key_hash(*key, page) ^ key_hash(new_key, page);
	*key = new_key;
	for (unsigned i = 0; i < PER_PAGE; i++)
		word[i] = pattern(new_key, &word[i]);
}

static void check_page(uint64_t page)
{
	const uint64_t *word = free_page(v.m, v.key_pages + page);
	uint64_t key = *key_of(page);

	for (unsigned i = 0; i < PER_PAGE; i++) {
		uint64_t seen = *(const volatile uint64_t *)&word[i];

		if (seen != pattern(key, &word[i])) {
			print_hex("verify: wrong word at ", (uint64_t)&word[i]);
			print_hex("  it is        ", seen);
			print_hex("  it should be ", pattern(key, &word[i]));
			guest_fail(RAMET_REPORT_MISMATCH, (uint64_t)&word[i]);
		}
	}
}

/* Sends a heartbeat. False: the VM was born again. */
static bool same_life(void)
{
	db_write(RAMET_DB_HEARTBEAT, ++v.beats);
	guest_sleep(v.pause);
	return db_read(RAMET_DB_GENERATION) == v.life;
}

/* Visits n pages from `first` on. False as soon as a new life has begun. */
static bool sweep(uint64_t first, uint64_t n, void (*visit)(uint64_t page))
{
	for (uint64_t i = 0; i < n; i++) {
		visit(first + i);
		if (i % CHUNK == CHUNK - 1 && !same_life())
			return false;
	}
	return same_life();
}

static bool check_all(void)
{
	uint64_t sum = 0;

	if (!sweep(0, v.pages, check_page))
		return false;
	for (uint64_t i = 0; i < v.pages; i++)
		sum ^= key_hash(*key_of(i), i);
	if (sum != v.sum)
		guest_fail(RAMET_REPORT_MISMATCH, (uint64_t)&v.sum);
	return true;
}

static bool sweep_random(void (*visit)(uint64_t page))
{
	uint64_t first = random64(&v.seed) % v.pages;
	uint64_t n = 1 + random64(&v.seed) % RUN_MAX;

	/* Short runs are as likely as long ones: single pages to half a span. */
	n >>= random64(&v.seed) % 11;
	return sweep(first, n < v.pages - first ? n : v.pages - first, visit);
}

/* The first writes of a life: all memory, or some runs. */
static bool overwrite(void)
{
	if (!v.written || random64(&v.seed) % 4 == 0)
		return sweep(0, v.pages, write_page);
	for (uint64_t n = 1 + random64(&v.seed) % 16; n; n--)
		if (!sweep_random(write_page))
			return false;
	return true;
}

/* One life. Returns when the next one has begun. */
static void live(void)
{
	v.life = db_read(RAMET_DB_GENERATION);
	v.seed = (uint64_t)db_read(RAMET_DB_GENID0) << 32 | db_read(RAMET_DB_GENID3);
	v.seed ^= mix64((uint64_t)db_read(RAMET_DB_CLONE_ID) << 32 | v.life);
	if (!check_all() || !overwrite())
		return;
	v.written = true;
	db_write(RAMET_DB_PHASE, RAMET_PHASE_READY);
	if (!check_all())
		return;
	db_write(RAMET_DB_PHASE, RAMET_PHASE_VERIFIED);
	for (unsigned n = 1; sweep_random(write_page) && sweep_random(check_page); n++)
		if (n % CHECK_EVERY == 0 && !check_all())
			return;
}

void guest_main(const struct guest_machine *m, unsigned cpu)
{
	uint64_t available, bytes;

	if (cpu)
		return;
	bytes = arg_number(m, "memory", MEMORY_MAX);
	v.m = m;
	v.pause = arg_number(m, "pause", 0);
	v.pages = bytes / GUEST_PAGE;
	available = free_pages(m) * PER_PAGE / (PER_PAGE + 1) - 1;
	if (v.pages > available) {
		if (arg_string(m, "memory"))
			print_hex("verify: this is all that is free: ", available * GUEST_PAGE);
		v.pages = available;
	}
	if (!v.pages)
		v.pages = 1;
	v.key_pages = (v.pages + PER_PAGE - 1) / PER_PAGE;
	for (;;)
		live();
}
