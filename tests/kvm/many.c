/* SPDX-License-Identifier: Apache-2.0 */
/* Makes 1,000 clones of a 256 MiB guest that are alive at once, checks that each runs, and prints
 * the cost of one. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/kvm/common.h"

#define CLONES	   1000
#define MEMORY	   (256 * MIB)
#define NEEDED_KIB (8ull << 20)

static uint64_t meminfo_kib(const char *key)
{
	FILE *f = fopen("/proc/meminfo", "re");
	char line[128];
	uint64_t kib = 0;

	assert_non_null(f);
	while (!kib && fgets(line, sizeof(line), f))
		if (!strncmp(line, key, strlen(key)))
			kib = strtoull(line + strlen(key), NULL, 10);
	fclose(f);
	return kib;
}

static void test_many(void **state)
{
	static struct ramet_vm *clones[CLONES];
	struct resources before = resources_now();
	struct family f = launch("dirty", "dirty=all rate=0", MEMORY, 1);
	uint64_t free_before = meminfo_kib("MemAvailable:"), private_bytes = 0, tables = 0;
	struct ramet_family_stat fst;

	if (free_before < NEEDED_KIB) {
		finish(&f);
		skip();
	}
	for (unsigned n = 0; n < CLONES; n += 50)
		fork_many(f.root, 50, clones + n);
	for (unsigned i = 0; i < CLONES; i++)
		await_beats(clones[i], 1);
	for (unsigned i = 0; i < CLONES; i++) {
		struct ramet_stat st;

		assert_healthy(clones[i]);
		ramet_vm_stat(clones[i], &st);
		private_bytes += st.private_bytes;
		tables += st.table_bytes;
	}
	ramet_family_stat(f.family, &fst);
	assert_int_equal(fst.vms, CLONES + 1);
	printf("{\"clones\": %u, \"memory_mib\": %llu, \"private_bytes_per_clone\": %lu, "
	       "\"table_bytes_per_clone\": %lu, \"host_bytes_per_clone\": %ld}\n",
		CLONES, MEMORY / MIB, private_bytes / CLONES, tables / CLONES,
		((long)free_before - (long)meminfo_kib("MemAvailable:")) * 1024 / CLONES);
	for (unsigned i = 0; i < CLONES; i++)
		stop_and_put(clones[i]);
	finish(&f);
	assert_no_leak(before);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_many) };

	return kvm_run_tests(tests);
}
