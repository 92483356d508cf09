/* SPDX-License-Identifier: Apache-2.0 */
/* libFuzzer target: a driver that does anything to the console (tests/fuzz/virtio.h). */
#include "tests/fuzz/virtio.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct port *port = fuzz_port();
	struct pci_function *fn;

	if (!virtio_console_new(port, &fn))
		fuzz_function(port, fn, data, size, virtio_console_input, NULL);
	return 0;
}
