/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "tests/kvm/common.h"
#include "tests/kvm/watchdog.h"
#include "vmm/vm/events.h"
#include "vmm/vm/life.h"

void check_ok(int ret, const struct ramet_err *err, const char *file, int line)
{
	watchdog_alive();
	if (!ret)
		return;
	print_error("%s:%d: %s: %s\n", file, line, strerror(-ret), err ? err->msg : "");
	_fail(file, line);
}

/* Prints the guests' output, which helps when a test fails. */
static void show_console(void *arg, struct ramet_vm *vm, const char *buf, size_t len)
{
	struct ramet_stat st;

	ramet_vm_stat_quick(vm, &st);
	fprintf(stderr, "[%s] %.*s%s", st.name, (int)len, buf, buf[len - 1] == '\n' ? "" : "\n");
}

struct family launch_config(struct ramet_config *cfg)
{
	struct ramet_err err = { "" };
	struct family f;

	cfg->console = show_console;
	assert_ok(ramet_launch(cfg, &f.family, &f.root, &err), &err);
	assert_ok(ramet_wait(f.root, RAMET_EV_PHASE, RAMET_PHASE_READY, WAIT_MS), NULL);
	return f;
}

struct family launch(const char *guest, const char *args, uint64_t memory, unsigned cpus)
{
	struct ramet_config cfg = { .guest = guest, .args = args, .memory = memory, .cpus = cpus };

	return launch_config(&cfg);
}

void finish(struct family *f)
{
	struct ramet_err err = { "" };

	assert_ok(ramet_family_check(f->family, &err), &err);
	ramet_vm_put(f->root);
	ramet_family_destroy(f->family);
}

void fork_many(struct ramet_vm *vm, unsigned n, struct ramet_vm **children)
{
	struct ramet_err err = { "" };
	int r = ramet_fork(vm, n, 0, children, NULL, &err);

	/* The VM may have ended. Then assert_healthy() says why. */
	if (r == -ESRCH && !ramet_wait(vm, RAMET_EV_STOPPED, 0, WAIT_MS))
		assert_healthy(vm);
	assert_ok(r, &err);
}

struct ramet_vm *fork_one(struct ramet_vm *vm)
{
	struct ramet_vm *child;

	fork_many(vm, 1, &child);
	return child;
}

void stop_and_put(struct ramet_vm *vm)
{
	struct ramet_err err = { "" };

	assert_ok(ramet_stop(vm, &err), &err);
	ramet_vm_put(vm);
}

void assert_healthy(struct ramet_vm *vm)
{
	struct ramet_stat st;

	ramet_vm_stat_quick(vm, &st);
	if ((st.state == RAMET_RUNNING || st.state == RAMET_PAUSED) && !st.report)
		return;
	fail_msg("%s: state %d (%s), exit status %d, report %u at %#lx", st.name, st.state,
		st.failure, st.exit_status, st.report, st.report_gpa);
}

void await_failure(struct ramet_vm *vm, struct ramet_stat *st)
{
	assert_ok(ramet_wait(vm, RAMET_EV_STOPPED, 0, WAIT_MS), NULL);
	ramet_vm_stat(vm, st);
	assert_int_equal(st->state, RAMET_FAILED);
	assert_int_equal(st->report, RAMET_REPORT_NONE);
	assert_true(strlen(st->failure) > 0);
}

void await_beats(struct ramet_vm *vm, uint64_t n)
{
	struct ramet_stat st;
	int ret;

	ramet_vm_stat_quick(vm, &st);
	ret = ramet_wait(vm, RAMET_EV_HEARTBEATS, st.heartbeats + n, WAIT_MS);
	assert_healthy(vm);
	assert_ok(ret, NULL);
}

uint64_t rnd(uint64_t below)
{
	static atomic_uint threads;
	static __thread uint64_t x;

	if (!x) {
		const char *seed = getenv("RAMET_SEED");
		unsigned n;

		x = seed ? strtoull(seed, NULL, 0) : (uint64_t)time(NULL) * 1000003;
		n = atomic_fetch_add(&threads, 1);
		if (!n)
			print_message("RAMET_SEED=%lu\n", x);
		x += n * 0x9e3779b97f4a7c15ull;
		x = x ? x : 1;
	}
	x ^= x << 13; /* Marsaglia, "Xorshift RNGs", 2003 */
	x ^= x >> 7;
	x ^= x << 17;
	return (x >> 11) % below;
}

void rnd_sleep(unsigned max_us)
{
	usleep((useconds_t)rnd(max_us));
}

double now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

double soak_end(unsigned seconds)
{
	const char *env = getenv("RAMET_SOAK_SECONDS");

	return now_s() + (env ? strtod(env, NULL) : seconds);
}

unsigned many_or_few(unsigned most, unsigned few)
{
	return getenv("RAMET_EMULATED") ? few : most;
}

static unsigned count_entries(const char *path)
{
	DIR *dir = opendir(path);
	unsigned n = 0;

	assert_non_null(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

struct resources resources_now(void)
{
	struct resources r = {
		.fds = count_entries("/proc/self/fd"),
		.threads = count_entries("/proc/self/task"),
	};
	FILE *maps = fopen("/proc/self/maps", "re");
	char line[512];

	assert_non_null(maps);
	while (fgets(line, sizeof(line), maps))
		r.maps += strstr(line, "/memfd:") || strstr(line, "anon_inode:");
	fclose(maps);
	return r;
}

void assert_no_leak(struct resources before)
{
	double end = now_s() + 20;
	struct resources r;

	for (;;) {
		r = resources_now();
		if (r.fds <= before.fds && r.threads <= before.threads && r.maps <= before.maps)
			return;
		if (now_s() > end)
			break;
		usleep(10000);
	}
	fail_msg("left behind: %d descriptors, %d threads, %d mappings", (int)(r.fds - before.fds),
		(int)(r.threads - before.threads), (int)(r.maps - before.maps));
}

bool kvm_usable(void)
{
	struct rlimit files;
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (fd < 0) {
		perror("/dev/kvm");
		return false;
	}
	close(fd);
	cmocka_set_test_filter(getenv("RAMET_TEST"));
	watchdog_start(HANG_SECONDS);
	if (!getrlimit(RLIMIT_NOFILE, &files)) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	return true;
}

void fail_now(struct ramet_vm *vm)
{
	vm_fail(vm, "the test ended it");
	/* The reaper may have stopped the VM already, and the maker may free the shell. */
	vm_lock(vm);
	if (vm->shell)
		shell_interrupt(vm->shell);
	vm_unlock(vm);
}

void await_shells(struct ramet_family *family, uint64_t least, uint64_t most)
{
	double end = now_s() + WAIT_MS / 1000.0;
	struct ramet_family_stat st;

	do {
		ramet_family_stat_quick(family, &st);
		if (st.shells_ready >= least && st.shells_ready <= most)
			return;
		usleep(20000);
	} while (now_s() < end);
	fail_msg("%lu shells are ready, not %lu to %lu", st.shells_ready, least, most);
}
