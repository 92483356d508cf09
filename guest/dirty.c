/* SPDX-License-Identifier: Apache-2.0 */
/* dirty: writes to a given amount of memory, then keeps writing to that memory at a given rate. */
#include "guest/lib/guest.h"

#define PERIOD_US 1000 /* the time between two batches of writes */

GUEST_KEYS(dirty);

struct work {
	const struct guest_machine *m;
	uint64_t pages;
	bool whole, random; /* write whole pages; in random order */
	uint64_t next, seed, value;
};

static void write_page(struct work *w, uint64_t i)
{
	uint64_t *page = free_page(w->m, i);

	w->value++;
	for (unsigned word = 0; word < (w->whole ? GUEST_PAGE / 8 : 1); word++)
		page[word] = w->value;
}

static uint64_t pick(struct work *w)
{
	uint64_t i = w->next++;

	return w->random ? random64(&w->seed) % w->pages : i % w->pages;
}

/* Writes n pages. The heartbeat after them has the number of pages written since it was ready. */
static void batch(struct work *w, uint64_t n, uint32_t *written)
{
	for (uint64_t i = 0; i < n; i++)
		write_page(w, pick(w));
	*written += (uint32_t)n;
	db_write(RAMET_DB_HEARTBEAT, *written);
}

void guest_main(const struct guest_machine *m, unsigned cpu)
{
	struct work w = { .m = m };
	uint64_t rate, per_batch;
	uint32_t written = 0;

	if (cpu)
		return;
	w.whole = arg_is(m, "fill", "page");
	w.random = arg_is(m, "span", "random");
	w.pages = UINT64_MAX;
	if (!arg_is(m, "dirty", "all"))
		w.pages = arg_number(m, "dirty", 1 << 20) / GUEST_PAGE;
	if (w.pages > free_pages(m)) {
		if (w.pages != UINT64_MAX)
			print_hex("dirty: this is all that is free: ", free_pages(m) * GUEST_PAGE);
		w.pages = free_pages(m);
	}
	rate = arg_is(m, "rate", "max") ? UINT64_MAX : arg_number(m, "rate", 1000);

	for (uint64_t i = 0; i < w.pages; i++)
		write_page(&w, i);
	db_write(RAMET_DB_PHASE, RAMET_PHASE_READY);
	print("dirty: done\n");
	if (!w.pages || !rate)
		for (;;) {
			batch(&w, 0, &written);
			guest_sleep(100000);
		}
	if (rate == UINT64_MAX)
		for (;;)
			batch(&w, 8, &written);
	per_batch = rate < 1000000 / PERIOD_US ? 1 : rate * PERIOD_US / 1000000;
	for (;;) {
		batch(&w, per_batch, &written);
		guest_sleep(1000000 * per_batch / rate);
	}
}
