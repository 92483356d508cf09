/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unmodified Linux guests, forked while they work (tests/nested/agent.c is their init). Usage:
 * linux KERNEL-6.12 INITRD KERNEL-6.1 INITRD VMLINUX, which tests/nested/linux-guests provides.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "include/ramet/abi.h"
#include "include/ramet/ramet.h"
#include "tests/nested/pattern.h"

#define VMS_MAX	   32u
#define BOOT_MS	   90000
#define WORK_MS	   120000
#define CONSOLE	   (64u << 10)
#define PARAMETERS "console=ttyS0 quiet loglevel=5 panic=-1 mitigations=off "

enum { NEW_KERNEL, OLD_KERNEL, KERNELS };
static struct {
	const char *kernel, *initrd;
} linux_files[KERNELS];
static const char *vmlinux;

/* The output of each VM of the family, by its id. */
struct consoles {
	pthread_mutex_t lock;
	char text[VMS_MAX][CONSOLE];
	size_t len[VMS_MAX];
};
static struct consoles consoles = { .lock = PTHREAD_MUTEX_INITIALIZER };

struct family {
	struct ramet_family *family;
	struct ramet_vm *vm[VMS_MAX];
	unsigned n;
	char disk[64];
};

static void on_console(void *arg, struct ramet_vm *vm, const char *buf, size_t len)
{
	struct ramet_stat st;
	size_t room;

	ramet_vm_stat_quick(vm, &st);
	if (st.id >= VMS_MAX)
		return;
	pthread_mutex_lock(&consoles.lock);
	room = CONSOLE - 1 - consoles.len[st.id];
	memcpy(consoles.text[st.id] + consoles.len[st.id], buf, len < room ? len : room);
	consoles.len[st.id] += len < room ? len : room;
	pthread_mutex_unlock(&consoles.lock);
}

static void make_disk(char *path)
{
	static uint8_t bytes[PATTERN_BYTES];
	int fd;

	strcpy(path, "/tmp/ramet-disk.XXXXXX");
	fd = mkstemp(path);
	assert_true(fd >= 0);
	pattern_fill(bytes);
	assert_int_equal(write(fd, bytes, sizeof(bytes)), sizeof(bytes));
	close(fd);
}

static void assert_disk_unchanged(const char *path)
{
	static uint8_t want[PATTERN_BYTES], have[PATTERN_BYTES];
	int fd = open(path, O_RDONLY);

	pattern_fill(want);
	assert_int_equal(read(fd, have, sizeof(have)), sizeof(have));
	assert_memory_equal(want, have, sizeof(want));
	close(fd);
}

/* cfg has the kernel, the initrd and the parameters; the rest is the same for all tests. */
static void launch(struct family *f, struct ramet_config cfg)
{
	struct ramet_err err = { "" };

	cfg.memory = 192ull << 20;
	cfg.disks[0] = (struct ramet_disk){ f->disk, false };
	cfg.disks[1] = (struct ramet_disk){ f->disk, true };
	cfg.n_disks = 2;
	cfg.console = on_console;

	memset(&consoles.text, 0, sizeof(consoles.text));
	memset(&consoles.len, 0, sizeof(consoles.len));
	make_disk(f->disk);
	if (ramet_launch(&cfg, &f->family, &f->vm[0], &err))
		fail_msg("launch: %s", err.msg);
	f->n = 1;
}

static void print_consoles(const struct family *f)
{
	for (unsigned i = 0; i < f->n; i++)
		print_message("---- console %u ----\n%s\n", i, consoles.text[i]);
}

/* Tells a VM to end, and waits for its end. It must end with status 0. */
static void assert_finishes(struct family *f, unsigned i)
{
	struct ramet_stat st;
	int ret;

	ramet_console_input(f->vm[i], "\n", 1);
	ret = ramet_wait(f->vm[i], RAMET_EV_STOPPED, 0, WORK_MS);

	ramet_vm_stat_quick(f->vm[i], &st);
	if (ret || st.state != RAMET_STOPPED || st.exit_status) {
		print_consoles(f);
		fail_msg("VM %u: wait %d, state %d, exit status %d %s", i, ret, st.state,
			st.exit_status, st.failure);
	}
}

/* Checks that no kernel has printed a warning. */
static void assert_quiet(const struct family *f)
{
	static const char *const bad[] = { "cut here", "WARNING:", "BUG:", "Oops", "soft lockup",
		"hung task", "detected stall", "Kernel panic", "Call Trace", "I/O error",
		"Unknown symbol", "ACPI Error", "ACPI BIOS", "ACPI Warning" };

	for (unsigned i = 0; i < f->n; i++)
		for (unsigned k = 0; k < sizeof(bad) / sizeof(bad[0]); k++)
			if (strstr(consoles.text[i], bad[k])) {
				print_consoles(f);
				fail_msg("VM %u: its kernel said '%s'", i, bad[k]);
			}
}

static void end(struct family *f)
{
	struct ramet_err err = { "" };

	assert_quiet(f);
	if (ramet_family_check(f->family, &err))
		fail_msg("%s", err.msg);
	for (unsigned i = 0; i < f->n; i++)
		ramet_vm_put(f->vm[i]);
	ramet_family_destroy(f->family);
	assert_disk_unchanged(f->disk);
	unlink(f->disk);
}

static void await_ready(struct family *f)
{
	int ret = ramet_wait(f->vm[0], RAMET_EV_PHASE, RAMET_PHASE_READY, BOOT_MS);

	if (ret) {
		print_consoles(f);
		fail_msg("the guest has not become ready: %d", ret);
	}
}

static void fork_one(struct family *f, unsigned parent)
{
	struct ramet_err err = { "" };

	if (ramet_fork(f->vm[parent], 1, 0, &f->vm[f->n], NULL, &err)) {
		print_consoles(f);
		fail_msg("fork of VM %u: %s", parent, err.msg);
	}
	f->n++;
}

static void pause_a_moment(unsigned max_ms)
{
	struct timespec t = { 0, (long)(rand() % (int)max_ms) * 1000000 };

	nanosleep(&t, NULL);
}

struct birth {
	unsigned id, generation;
	char random[33];
};

/* The last birth that VM i has printed, in a complete line. */
static bool last_birth(unsigned i, struct birth *b)
{
	const char *at = consoles.text[i], *end = NULL;
	bool found = false;

	pthread_mutex_lock(&consoles.lock);
	while ((at = strstr(at, "agent: born ")) && (end = strchr(at, '\n'))) {
		found = sscanf(at, "agent: born %u %u %32s", &b->id, &b->generation, b->random) ==
			3;
		at = end;
	}
	pthread_mutex_unlock(&consoles.lock);
	return found;
}

static void assert_births(const struct family *f)
{
	struct birth birth[VMS_MAX];

	for (unsigned i = 1; i < f->n; i++) {
		if (!last_birth(i, &birth[i])) {
			print_consoles(f);
			fail_msg("VM %u never noticed its birth", i);
		}
		assert_int_equal(birth[i].id, i);
		for (unsigned k = 1; k < i; k++)
			assert_string_not_equal(birth[i].random, birth[k].random);
	}
}

/* The workload is forked eight times: in turn the VM that booted, and one of its clones. */
static void forks(unsigned kernel, unsigned cpus, unsigned n)
{
	struct family f = { .n = 0 };

	launch(&f, (struct ramet_config){ .kernel = linux_files[kernel].kernel,
			   .initrd = linux_files[kernel].initrd,
			   .cpus = cpus,
			   .args = PARAMETERS });
	await_ready(&f);
	for (unsigned i = 0; i < n; i++) {
		fork_one(&f, i % 2 ? 1 + (unsigned)rand() % (f.n - 1) : 0);
		pause_a_moment(200);
	}
	for (unsigned i = 0; i < f.n; i++)
		assert_finishes(&f, i);
	assert_births(&f);
	end(&f);
}

/* Eight, or RAMET_FORKS. */
static unsigned n_forks(void)
{
	const char *env = getenv("RAMET_FORKS");
	unsigned n = env ? (unsigned)atoi(env) : 8;

	return n < VMS_MAX ? n : VMS_MAX - 1;
}

static void test_forks(void **state)
{
	forks(NEW_KERNEL, 1, n_forks());
}

static void test_forks_smp(void **state)
{
	forks(NEW_KERNEL, 2, n_forks());
}

static void test_forks_old_kernel(void **state)
{
	forks(OLD_KERNEL, 1, 2);
}

static void test_forks_old_kernel_smp(void **state)
{
	forks(OLD_KERNEL, 2, n_forks());
}

static void stop_all(struct family *f)
{
	for (unsigned i = 0; i < f->n; i++)
		assert_int_equal(ramet_stop(f->vm[i], NULL), 0);
}

/* Waits until VM i has printed a birth other than `before`. */
static void await_birth(const struct family *f, unsigned i, const char *before, struct birth *b)
{
	for (unsigned ms = 0; ms < WORK_MS; ms += 10) {
		if (last_birth(i, b) && strcmp(b->random, before) != 0)
			return;
		usleep(10000);
	}
	print_consoles(f);
	fail_msg("VM %u: no new birth", i);
}

/* After a reset a clone starts again, with the same memory and disk and a new identity. */
static void test_reset(void **state)
{
	struct family f = { .n = 0 };
	struct birth before, after;

	launch(&f, (struct ramet_config){ .kernel = linux_files[NEW_KERNEL].kernel,
			   .initrd = linux_files[NEW_KERNEL].initrd,
			   .cpus = 2,
			   .args = PARAMETERS });
	await_ready(&f);
	fork_one(&f, 0);
	await_birth(&f, 1, "", &before);
	for (unsigned i = 0; i < 3; i++) {
		struct ramet_err err = { "" };

		pause_a_moment(300);
		if (ramet_reset(f.vm[1], &err))
			fail_msg("reset: %s", err.msg);
		await_birth(&f, 1, before.random, &after);
		assert_true(after.generation > before.generation);
		before = after;
	}
	stop_all(&f);
	end(&f);
}

/* With --reseed require, a VM whose guest cannot reseed is not forked. */
static void test_reseed_required(void **state)
{
	struct family f = { .n = 0 };
	struct ramet_err err = { "" };
	struct ramet_vm *none = NULL;

	launch(&f, (struct ramet_config){ .kernel = linux_files[NEW_KERNEL].kernel,
			   .initrd = linux_files[NEW_KERNEL].initrd,
			   .args = PARAMETERS,
			   .reseed = RAMET_RESEED_REQUIRE });
	assert_int_equal(ramet_fork(f.vm[0], 1, 0, &none, NULL, &err), -EOPNOTSUPP);
	assert_null(none);
	if (!strstr(err.msg, "has not promised to reseed"))
		fail_msg("'%s'", err.msg);
	await_ready(&f);
	fork_one(&f, 0);
	assert_finishes(&f, 1);
	assert_births(&f);
	stop_all(&f);
	end(&f);
}

/* A clone fails if its guest has the driver but never gets the event of its birth. */
static void test_reseed_missed(void **state)
{
	struct family f = { .n = 0 };
	struct ramet_stat st;

	launch(&f, (struct ramet_config){ .kernel = linux_files[NEW_KERNEL].kernel,
			   .initrd = linux_files[NEW_KERNEL].initrd,
			   .args = PARAMETERS "initcall_blacklist=ged_driver_init",
			   .reseed_ms = 2000 });
	await_ready(&f);
	fork_one(&f, 0);
	assert_int_equal(ramet_wait(f.vm[1], RAMET_EV_STOPPED, 0, WORK_MS), 0);
	ramet_vm_stat_quick(f.vm[1], &st);
	assert_int_equal(st.state, RAMET_FAILED);
	if (!strstr(st.failure, "has not reseeded"))
		fail_msg("'%s'", st.failure);
	assert_null(strstr(consoles.text[1], "agent: born"));
	assert_finishes(&f, 0);
	end(&f);
}

/* Boots with the other protocol. */
static void test_pvh(void **state)
{
	struct family f = { .n = 0 };

	launch(&f, (struct ramet_config){ .kernel = vmlinux,
			   .initrd = linux_files[NEW_KERNEL].initrd,
			   .cpus = 2,
			   .args = PARAMETERS "agent.once" });
	assert_finishes(&f, 0);
	if (!strstr(consoles.text[0], "read-only disk refused a write"))
		fail_msg("the read-only disk was not tried");
	end(&f);
}

/* Wrong files give an error that names them. */
static void refused(
	const char *kernel, const char *initrd, const char *disk, uint64_t memory, const char *why)
{
	struct ramet_config cfg = {
		.memory = memory,
		.kernel = kernel,
		.initrd = initrd,
		.disks = { { disk, false } },
		.n_disks = disk ? 1 : 0,
	};
	struct ramet_err err = { "" };
	struct ramet_family *family;
	struct ramet_vm *vm;

	assert_true(ramet_launch(&cfg, &family, &vm, &err) < 0);
	if (!strstr(err.msg, why))
		fail_msg("'%s' does not say '%s'", err.msg, why);
}

static void write_file(const char *path, const char *from, size_t bytes)
{
	char *buf = malloc(bytes);
	int in = open(from, O_RDONLY), out = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_true(buf && in >= 0 && out >= 0);
	assert_int_equal(read(in, buf, bytes), bytes);
	assert_int_equal(write(out, buf, bytes), bytes);
	close(in);
	close(out);
	free(buf);
}

static void test_wrong_files(void **state)
{
	const char *kernel = linux_files[NEW_KERNEL].kernel;
	const char *initrd = linux_files[NEW_KERNEL].initrd;
	const uint64_t mib = 1 << 20;

	refused("/none", NULL, NULL, 256 * mib, "kernel '/none': No such file");
	refused("/tmp", NULL, NULL, 256 * mib, "kernel '/tmp': not a regular file");
	refused(initrd, NULL, NULL, 256 * mib, "neither a bzImage nor an ELF file");
	refused(kernel, NULL, NULL, 16 * mib, "it needs --memory ");
	refused(kernel, "/none", NULL, 256 * mib, "initrd '/none': No such file");
	refused(kernel, initrd, "/none", 256 * mib, "disk '/none': No such file");
	refused(kernel, initrd, "/tmp", 256 * mib, "disk '/tmp': not a regular file");
	write_file("/tmp/cut", kernel, 1 << 20);
	refused("/tmp/cut", NULL, NULL, 256 * mib, "cut off");
	write_file("/tmp/cut", vmlinux, 1 << 20);
	refused("/tmp/cut", NULL, NULL, 256 * mib, "beyond the end of the file");
	assert_return_code(truncate("/tmp/cut", 300 * (off_t)mib), errno);
	refused(kernel, "/tmp/cut", NULL, 256 * mib, "do not fit");
	unlink("/tmp/cut");
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_wrong_files),
		cmocka_unit_test(test_forks),
		cmocka_unit_test(test_forks_smp),
		cmocka_unit_test(test_forks_old_kernel),
		cmocka_unit_test(test_forks_old_kernel_smp),
		cmocka_unit_test(test_reset),
		cmocka_unit_test(test_reseed_required),
		cmocka_unit_test(test_reseed_missed),
		cmocka_unit_test(test_pvh),
	};
	const char *env = getenv("RAMET_SEED");
	unsigned seed = env ? (unsigned)atoi(env) : (unsigned)time(NULL);

	if (argc < 6) {
		fprintf(stderr, "usage: %s KERNEL-6.12 INITRD KERNEL-6.1 INITRD VMLINUX [TEST]\n",
			argv[0]);
		return 2;
	}
	linux_files[NEW_KERNEL].kernel = argv[1];
	linux_files[NEW_KERNEL].initrd = argv[2];
	linux_files[OLD_KERNEL].kernel = argv[3];
	linux_files[OLD_KERNEL].initrd = argv[4];
	vmlinux = argv[5];
	if (argc > 6)
		cmocka_set_test_filter(argv[6]);
	print_message("RAMET_SEED=%u\n", seed);
	srand(seed);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
