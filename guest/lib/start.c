/* SPDX-License-Identifier: Apache-2.0 */
/* Where entry.S calls C, on every vCPU. */
#include "guest/lib/guest.h"

void guest_start(const void *fdt, uint64_t cpu);

void guest_start(const void *fdt, uint64_t cpu)
{
	static struct guest_machine machine;
	static uint32_t ready;

	if (cpu == 0) {
		if (!fdt_read(fdt, &machine))
			guest_exit(RAMET_EXIT_USAGE);
		args_check(&machine, guest_keys);
		__atomic_store_n(&ready, 1, __ATOMIC_RELEASE);
	}
	while (!__atomic_load_n(&ready, __ATOMIC_ACQUIRE))
		guest_sleep(100);
	guest_main(&machine, (unsigned)cpu);
	guest_park();
}
