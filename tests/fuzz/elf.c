/* SPDX-License-Identifier: Apache-2.0 */
/* libFuzzer target: the ELF loader. What it accepts must fit what it says it loaded. */
#include <stdlib.h>
#include <string.h>

#include "include/ramet/abi.h"
#include "vmm/boot/elf.h"

#define RAM_SIZE (4u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t bytes[RAM_SIZE];
	struct ram_layout ram;
	struct boot_memory mem = { .ram = &ram, .host = { bytes } };
	struct elf_image image;
	struct ramet_err err;

	ram_layout_init(&ram, RAM_SIZE);
	if (elf_load(data, size, &mem, RAMET_GPA_IMAGE, &image, &err))
		return 0;
	if (image.start < RAMET_GPA_IMAGE || image.end > RAM_SIZE || image.start >= image.end)
		abort();
	if (elf_has(data, image.entry) && (image.entry < image.start || image.entry >= image.end))
		abort();
	memset(bytes + image.start, 0, image.end - image.start);
	/* Nothing may be written elsewhere; a look at some places finds gross errors. */
	for (size_t i = 0; i < RAM_SIZE; i += 509)
		if (bytes[i])
			abort();
	return 0;
}
