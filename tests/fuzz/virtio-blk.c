/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libFuzzer target: a driver that does anything to a disk (tests/fuzz/virtio.h), a read-only one if
 * the first byte is odd. The base must stay as it is, and the overlay's counts right.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/fuzz/virtio.h"
#include "vmm/devices/disk.h"

#define BYTES 0x6e00u /* not whole clusters */

static struct disk *watch; /* another disk of the same base */

static uint8_t base_byte(size_t i)
{
	return (uint8_t)(i * 7 + i / 512);
}

static int base_fd(void)
{
	static int fd = -1;
	static uint8_t bytes[BYTES];

	if (fd >= 0)
		return fd;
	fd = memfd_create("base", MFD_CLOEXEC);
	for (size_t i = 0; i < BYTES; i++)
		bytes[i] = base_byte(i);
	if (fd < 0 || write(fd, bytes, BYTES) != BYTES)
		abort();
	setenv("TMPDIR", "/dev/shm", 1); /* overlays that no disk has to write */
	return fd;
}

/* A disk that was never written shows the base. */
static void end(struct pci_function *fn)
{
	uint8_t bytes[BYTES];

	if (disk_read(watch, 0, bytes, BYTES))
		abort();
	for (size_t i = 0; i < BYTES; i++)
		if (bytes[i] != base_byte(i))
			abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct port *port = fuzz_port();
	struct pci_function *fn;
	struct disk *disk;
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", base_fd());
	if (!size || disk_open(path, data[0] & 1, &disk, NULL))
		return 0;
	if (disk_clone(disk, &watch) || virtio_blk_new(port, disk, &fn))
		abort();
	fuzz_function(port, fn, data + 1, size - 1, NULL, end);
	/* The device's disk is gone, with all that was written to it. */
	if (disk_check(&watch, 1))
		abort();
	disk_free(watch);
	return 0;
}
