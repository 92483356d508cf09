/* SPDX-License-Identifier: Apache-2.0 */
/* count: sends heartbeats with a counter, for ever or up to a given number. */
#include "guest/lib/guest.h"

GUEST_KEYS(count);

void guest_main(const struct guest_machine *m, unsigned cpu)
{
	uint64_t rate, beats;

	if (cpu)
		return;
	rate = arg_number(m, "rate", 0);
	beats = arg_number(m, "beats", UINT64_MAX);
	print("count: hello\n");
	if (!beats)
		guest_exit((int)arg_number(m, "status", 0));
	db_write(RAMET_DB_PHASE, RAMET_PHASE_READY);
	for (uint32_t n = 1;; n++) {
		if (n > beats)
			guest_exit((int)arg_number(m, "status", 0));
		db_write(RAMET_DB_HEARTBEAT, n);
		if (rate)
			guest_sleep(1000000 / rate);
	}
}
