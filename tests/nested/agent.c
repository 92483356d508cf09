/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest's side of the Linux tests: a static /init that works all the time, so that a fork may
 * come at any point of its work. It notices each fork.
 *
 * One process writes and checks a file in tmpfs for ever. The other process reads all of /dev/vda
 * in rounds and compares it with a mirror in its memory. This fails if memory and disk of a clone
 * do not belong together. After each birth it prints its identity and writes it to the disk.
 *
 * After a line on its console it ends, some rounds after its last birth.
 *
 * Kernel parameters: agent.once (end after the first round), agent.any (the disk may have any
 * contents at the start).
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/random.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "include/ramet/abi.h"
#include "tests/nested/pattern.h"

#define CHUNK  65536u
#define ROUNDS 4u   /* at least this many after its last birth */
#define SLOTS  256u /* the last sectors of the disk, one for each clone id */

static volatile uint32_t *db;
static uint8_t mirror[PATTERN_BYTES] __attribute__((aligned(4096)));
static _Atomic uint64_t *laps; /* number of rounds of the other process */

static void say(const char *fmt, ...)
{
	char line[256];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(line, sizeof(line) - 1, fmt, ap);
	va_end(ap);
	line[n++] = '\n';
	if (write(STDOUT_FILENO, line, (size_t)n) < 0)
		_exit(1); /* init's death is a panic */
}

/*
 * Uses the doorbell in memory, not its ports. The kernel gives ports to user space by a bitmap in
 * the TSS. QEMU's emulator ignores this bitmap if the TSS was loaded as busy, which is what KVM
 * does.
 */
static uint32_t doorbell(unsigned reg)
{
	uint32_t value;

	/* In assembly: KVM does not emulate the vector loads that a compiler may choose. */
	__asm__ volatile("movl %1, %0" : "=r"(value) : "m"(db[reg / 4]));
	return value;
}

static void ring(unsigned reg, uint32_t value)
{
	db[reg / 4] = value;
}

/* True if a line has ever come. */
static bool told_to_end(void)
{
	static bool told;
	char line[16];

	return told |= read(STDIN_FILENO, line, sizeof(line)) > 0;
}

/* Turns off echo, and makes reads return at once. */
static void set_up_console(void)
{
	struct termios t;

	if (!tcgetattr(STDIN_FILENO, &t)) {
		t.c_lflag &= (tcflag_t)~ECHO;
		tcsetattr(STDIN_FILENO, TCSANOW, &t);
	}
	fcntl(STDIN_FILENO, F_SETFL, O_NONBLOCK);
}

static void end(int status)
{
	for (;;) {
		ring(RAMET_DB_EXIT, (uint32_t)status);
		sleep(1);
	}
}

#define CHECK(cond, ...)                                    \
	do {                                                \
		if (!(cond)) {                              \
			say("agent: FAILED: " __VA_ARGS__); \
			end(1);                             \
		}                                           \
	} while (0)

static int64_t ns(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return t.tv_sec * 1000000000ll + t.tv_nsec;
}

/* The names of the files give the order. */
static void load_modules(void)
{
	struct dirent **e;
	int n = scandir("/modules", &e, NULL, alphasort);

	for (int i = 0; i < n; i++) {
		char path[300];
		int fd;

		snprintf(path, sizeof(path), "/modules/%s", e[i]->d_name);
		fd = open(path, O_RDONLY);
		if (e[i]->d_name[0] != '.' && syscall(SYS_finit_module, fd, "", 0))
			say("agent: module %s: %s", e[i]->d_name, strerror(errno));
		close(fd);
		free(e[i]);
	}
	if (n >= 0)
		free(e);
}

static void set_up(void)
{
	int fd;

	mkdir("/proc", 0755);
	mkdir("/sys", 0755);
	mkdir("/dev", 0755);
	mkdir("/tmp", 0755);
	mount("proc", "/proc", "proc", 0, NULL);
	mount("sysfs", "/sys", "sysfs", 0, NULL);
	mount("dev", "/dev", "devtmpfs", 0, NULL);
	mount("tmp", "/tmp", "tmpfs", 0, NULL);
	fd = open("/dev/mem", O_RDWR | O_SYNC);
	db = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, RAMET_DOORBELL_MMIO);
	if (db == MAP_FAILED)
		_exit(1); /* init's death is a panic */
	load_modules();
	laps = mmap(NULL, sizeof(*laps), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(laps != MAP_FAILED, "mmap: %s", strerror(errno));
}

static unsigned parameter(const char *name, unsigned otherwise)
{
	char line[4096] = "", *at;
	int fd = open("/proc/cmdline", O_RDONLY);

	if (read(fd, line, sizeof(line) - 1) < 0)
		line[0] = 0;
	close(fd);
	at = strstr(line, name);
	if (!at)
		return otherwise;
	at += strlen(name);
	return *at == '=' ? (unsigned)atoi(at + 1) : 1;
}

/* The other process: writes a file in tmpfs and reads it back, each time with another key. */
static void tmpfs_work(void)
{
	static uint32_t words[CHUNK / 4], back[CHUNK / 4];
	int fd = open("/tmp/file", O_RDWR | O_CREAT | O_TRUNC, 0600);

	for (uint32_t key = 1;; key++) {
		for (unsigned i = 0; i < CHUNK / 4; i++)
			words[i] = pattern_word(i * key);
		CHECK(pwrite(fd, words, CHUNK, 0) == CHUNK && pread(fd, back, CHUNK, 0) == CHUNK,
			"tmpfs: %s", strerror(errno));
		CHECK(!memcmp(words, back, CHUNK), "tmpfs: wrong data");
		++*laps;
	}
}

static int open_disk(void)
{
	int fd = -1;

	for (unsigned i = 0; i < 200 && fd < 0; i++) {
		fd = open("/dev/vda", O_RDWR | O_DIRECT | O_SYNC);
		if (fd < 0)
			usleep(50000);
	}
	return fd;
}

/* Reads every byte of the disk, without the page cache. */
static void disk_round(int fd)
{
	static uint8_t chunk[CHUNK] __attribute__((aligned(4096)));

	for (uint64_t pos = 0; pos < PATTERN_BYTES; pos += CHUNK) {
		ssize_t n = pread(fd, chunk, CHUNK, (off_t)pos);

		CHECK(n == CHUNK, "disk: read at %" PRIu64 ": %s", pos, strerror(errno));
		for (unsigned i = 0; i < CHUNK; i += 512)
			CHECK(!memcmp(chunk + i, mirror + pos + i, 512),
				"disk: wrong data in sector %" PRIu64, (pos + i) / 512);
	}
}

static void disk_write_id(int fd, uint32_t id)
{
	static uint8_t sector[512] __attribute__((aligned(512)));
	uint64_t pos = PATTERN_BYTES - (1 + id % SLOTS) * sizeof(sector);

	for (unsigned i = 0; i < sizeof(sector); i++)
		sector[i] = (uint8_t)(id + i);
	memcpy(mirror + pos, sector, sizeof(sector));
	CHECK(pwrite(fd, sector, sizeof(sector), (off_t)pos) == sizeof(sector), "disk: write: %s",
		strerror(errno));
}

/* A second disk, if any, must refuse writes. */
static void check_readonly(void)
{
	static uint8_t sector[512] __attribute__((aligned(512)));
	int fd = open("/dev/vdb", O_RDWR | O_DIRECT);

	if (fd < 0 && errno == ENOENT)
		return;
	CHECK(fd < 0 || write(fd, sector, sizeof(sector)) < 0, "the read-only disk was written");
	fd = open("/dev/vdb", O_RDONLY | O_DIRECT);
	CHECK(read(fd, sector, sizeof(sector)) == sizeof(sector),
		"the read-only disk is unreadable");
	say("agent: read-only disk refused a write");
}

/* The id of the present birth: it changes exactly when the VM is born again. */
struct genid {
	uint32_t word[4];
};

static struct genid genid(void)
{
	struct genid id;

	for (unsigned i = 0; i < 4; i++)
		id.word[i] = doorbell(RAMET_DB_GENID0 + 4 * i);
	return id;
}

static bool is_genid(const struct genid *id)
{
	struct genid now = genid();

	return !memcmp(&now, id, sizeof(now));
}

/* How often the kernel has printed, since the last call, that it reseeded its random numbers. */
static unsigned reseeds(int kmsg)
{
	unsigned found = 0;
	char line[1024];
	ssize_t n;

	while ((n = read(kmsg, line, sizeof(line) - 1)) > 0 || (n < 0 && errno == EPIPE)) {
		line[n > 0 ? n : 0] = 0;
		found += !!strstr(line, "reseeded due to virtual machine fork");
	}
	return found;
}

/*
 * Waits until the kernel has reseeded for the present birth. The doorbell shows whether this
 * birth's event has come. The driver then works in a kernel thread, which gets a CPU during the
 * pauses here, and the kernel must have printed that it reseeded. Its message does not name the
 * birth, so if another birth comes meanwhile, start again.
 */
static struct genid await_reseed(int kmsg)
{
	unsigned found = 0;
	struct genid id;

	do {
		unsigned wait = 0;

		id = genid();
		while (!doorbell(RAMET_DB_RESEED) || !found) {
			CHECK(++wait < 3000, "clone %u: random numbers were not reseeded (%u, %u)",
				doorbell(RAMET_DB_CLONE_ID), doorbell(RAMET_DB_RESEED), found);
			usleep(10000);
			found += reseeds(kmsg);
		}
		for (unsigned i = 0; i < 20; i++)
			usleep(2000);
	} while (!is_genid(&id));
	return id;
}

/* Reseeds as a guest without a driver for the generation id must do. */
static struct genid reseed_by_hand(void)
{
	struct {
		struct rand_pool_info info;
		struct genid id;
	} pool = { .info = { .entropy_count = 128, .buf_size = sizeof(pool.id) } };
	int fd = open("/dev/urandom", O_RDWR);

	do {
		pool.id = genid();
		CHECK(!ioctl(fd, RNDADDENTROPY, &pool) && !ioctl(fd, RNDRESEEDCRNG), "reseed: %s",
			strerror(errno));
		ring(RAMET_DB_RESEED, 1);
	} while (!is_genid(&pool.id));
	close(fd);
	return pool.id;
}

/* Prints its identity since its last birth, and returns the id of that birth: another birth may
 * come at any point. */
static struct genid born(int kmsg, bool vmgenid)
{
	struct genid id = vmgenid ? await_reseed(kmsg) : reseed_by_hand();
	uint64_t random[2];

	CHECK(getrandom(random, sizeof(random), 0) == sizeof(random), "getrandom");
	say("agent: born %u %u %016" PRIx64 "%016" PRIx64, doorbell(RAMET_DB_CLONE_ID),
		doorbell(RAMET_DB_GENERATION), random[0], random[1]);
	return id;
}

/* The host's wall clock is ahead of ours by a value between these two. */
struct lag {
	int64_t least, most;
};

static struct lag wall_lag(void)
{
	int64_t before = ns(CLOCK_REALTIME), host;

	host = doorbell(RAMET_DB_WALL_LO);
	host |= (int64_t)doorbell(RAMET_DB_WALL_HI) << 32;
	return (struct lag){ host - ns(CLOCK_REALTIME), host - before };
}

/*
 * Checks the clocks since the last call. The wall clock may have lost time while the kernel booted,
 * before it had its clock source (on a slow machine ticks are late). Forks must not add to that.
 */
static void check_clocks(const struct lag *at_first)
{
	const int64_t drift = 500000000;
	static int64_t last;
	int64_t now = ns(CLOCK_MONOTONIC);
	struct lag lag = wall_lag();

	CHECK(now >= last, "monotonic time went back by %" PRId64 " ns", last - now);
	last = now;
	CHECK(lag.least <= at_first->most + drift && lag.most >= at_first->least - drift,
		"the wall clock is off by %" PRId64 "..%" PRId64 " ns, was %" PRId64 "..%" PRId64,
		lag.least, lag.most, at_first->least, at_first->most);
}

int main(void)
{
	unsigned left = ROUNDS, beats = 0;
	struct genid id;
	struct lag lag;
	uint64_t seen;
	bool vmgenid;
	int fd, kmsg;

	set_up();
	set_up_console();
	if (parameter("agent.once", 0))
		left = 0;
	vmgenid = !access("/sys/bus/platform/drivers/vmgenid/RAMT0001:00", F_OK);
	kmsg = open("/dev/kmsg", O_RDONLY | O_NONBLOCK);
	fd = open_disk();
	CHECK(fd >= 0, "no /dev/vda: %s", strerror(errno));
	pattern_fill(mirror);
	if (parameter("agent.any", 0))
		CHECK(pread(fd, mirror, sizeof(mirror), 0) == sizeof(mirror), "disk: first read");
	check_readonly();
	if (!fork())
		tmpfs_work();
	disk_round(fd);
	seen = *laps;
	if (!vmgenid)
		ring(RAMET_DB_RESEED, 1);
	id = genid();
	lag = wall_lag();
	say("agent: ready, vmgenid %s", vmgenid ? "bound" : "absent");
	ring(RAMET_DB_PHASE, RAMET_PHASE_READY);
	while (left) {
		check_clocks(&lag);
		if (!is_genid(&id)) {
			id = born(kmsg, vmgenid);
			disk_write_id(fd, doorbell(RAMET_DB_CLONE_ID));
			left = ROUNDS;
			seen = *laps;
		}
		disk_round(fd);
		ring(RAMET_DB_HEARTBEAT, ++beats);
		left -= told_to_end();
	}
	for (unsigned i = 0; *laps == seen && i < 1000; i++)
		usleep(10000);
	CHECK(*laps != seen, "the other process stands still");
	say("agent: done %u", doorbell(RAMET_DB_CLONE_ID));
	end(0);
}
