/* SPDX-License-Identifier: Apache-2.0 */
/* libFuzzer target: bzImage and PVH loaders. What they accept must lie in RAM and be entered there.
 */
#include <asm/bootparam.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/boot/linux.h"

#define RAM_SIZE (4u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t bytes[RAM_SIZE];
	struct ram_layout ram;
	struct boot_memory mem = { .ram = &ram, .host = { bytes } };
	struct linux_image image;
	struct ramet_err err;

	ram_layout_init(&ram, RAM_SIZE);
	if (linux_load_image(data, size, &mem, &image, &err))
		return 0;
	if (image.start < LINUX_HIGH_START || image.end > RAM_SIZE || image.start >= image.end ||
		image.entry < image.start || image.entry >= image.end)
		abort();
	if (!image.pvh) {
		const struct boot_params *bp = (void *)(bytes + LINUX_GPA_PARAMS);

		/* The kernel would move itself up, beyond the checked memory. */
		if (image.start < bp->hdr.pref_address)
			abort();
	}
	memset(bytes, 0, sizeof(bytes));
	return 0;
}
