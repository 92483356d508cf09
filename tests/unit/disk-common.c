/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "tests/unit/disk-common.h"

char path[64];

uint8_t base_byte(size_t i)
{
	return (uint8_t)(i * 13 + i / 4096);
}

int make_base(void **state)
{
	uint8_t *bytes = malloc(SIZE);
	int fd;

	strcpy(path, "/tmp/ramet-unit-disk.XXXXXX");
	fd = mkstemp(path);
	for (size_t i = 0; i < SIZE; i++)
		bytes[i] = base_byte(i);
	if (fd < 0 || write(fd, bytes, SIZE) != SIZE)
		return -1;
	free(bytes);
	return close(fd);
}

int remove_base(void **state)
{
	return unlink(path);
}

void assert_base_unchanged(void)
{
	uint8_t *bytes = malloc(SIZE + 1);
	int fd = open(path, O_RDONLY);

	assert_int_equal(read(fd, bytes, SIZE + 1), SIZE);
	for (size_t i = 0; i < SIZE; i++)
		assert_int_equal(bytes[i], base_byte(i));
	close(fd);
	free(bytes);
}

void model_open(struct model *m)
{
	struct ramet_err err = { "" };

	*m = (struct model){ .n = 1 };
	assert_int_equal(disk_open(path, false, &m->disk[0], &err), 0);
	assert_int_equal(disk_size(m->disk[0]), SIZE);
	assert_false(disk_readonly(m->disk[0]));
	m->bytes[0] = malloc(SIZE);
	for (size_t i = 0; i < SIZE; i++)
		m->bytes[0][i] = base_byte(i);
}

void model_free(struct model *m, unsigned i)
{
	disk_free(m->disk[i]);
	free(m->bytes[i]);
	m->n--;
	m->disk[i] = m->disk[m->n];
	m->bytes[i] = m->bytes[m->n];
}

void model_clone(struct model *m, unsigned i)
{
	assert_int_equal(disk_clone(m->disk[i], &m->disk[m->n]), 0);
	m->bytes[m->n] = malloc(SIZE);
	memcpy(m->bytes[m->n], m->bytes[i], SIZE);
	m->n++;
}

/* A range of any size and place; mostly small. */
static void range(uint64_t *pos, uint64_t *len)
{
	*pos = (uint64_t)rand() % SIZE;
	*len = 1 + (uint64_t)rand() % (rand() % 8 ? 6000 : SIZE);
	if (*len > SIZE - *pos)
		*len = SIZE - *pos;
}

/* Memory in pieces of any size; some are empty. */
static unsigned pieces(uint8_t *buf, uint64_t len, struct iovec *iov, unsigned max)
{
	unsigned n = 0;

	while (len) {
		uint64_t some = (uint64_t)rand() % (rand() % 4 ? 5000 : 40);

		some = some < len && n < max - 1 ? some : len;
		iov[n++] = (struct iovec){ buf, some };
		buf += some;
		len -= some;
	}
	return n;
}

void model_write(struct model *m, unsigned i)
{
	struct iovec iov[200];
	uint64_t pos, len;

	range(&pos, &len);
	for (uint64_t at = 0; at < len; at++)
		m->bytes[i][pos + at] = (uint8_t)rand();
	assert_int_equal(disk_writev(m->disk[i], pos, iov,
				 pieces(m->bytes[i] + pos, len, iov, 1 + (unsigned)rand() % 200)),
		0);
}

void model_read(struct model *m, unsigned i)
{
	static uint8_t bytes[SIZE];
	struct iovec iov[200];
	uint64_t pos, len;

	range(&pos, &len);
	assert_int_equal(disk_readv(m->disk[i], pos, iov,
				 pieces(bytes, len, iov, 1 + (unsigned)rand() % 200)),
		0);
	assert_memory_equal(bytes, m->bytes[i] + pos, len);
}

void model_end(struct model *m)
{
	static uint8_t bytes[SIZE];

	for (unsigned i = 0; i < m->n; i++) {
		assert_int_equal(disk_read(m->disk[i], 0, bytes, SIZE), 0);
		assert_memory_equal(bytes, m->bytes[i], SIZE);
	}
	while (m->n) {
		assert_int_equal(disk_check(m->disk, m->n), 0);
		model_free(m, (unsigned)rand() % m->n);
	}
	assert_base_unchanged();
}
