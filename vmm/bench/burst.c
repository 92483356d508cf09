/* SPDX-License-Identifier: Apache-2.0 */
/* Measures bursts: runs the program's own commands, and is a client of the family. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/base/clock.h"
#include "vmm/base/priority.h"
#include "vmm/bench/burst.h"
#include "vmm/cli/client.h"
#include "vmm/cli/command.h"

#define FAMILY	   "burst"
#define SELF	   "/proc/self/exe"
#define SHELLS_S   300u /* for the shells to be made */
#define GONE_MS	   600000
#define LOOK_US	   5000
#define ARGS_MAX   16
#define NUMBER_MAX 24

/* ---- commands ---- */

/* Runs "ramet ..." and waits for it. Its output goes to the file `out`, or nowhere (-1). `took`
 * receives the time from its start to its end. EXIT_OK, or EXIT_TROUBLE: it has failed. */
static int command(const char *const *args, int out, struct series *took)
{
	const struct sched_param none = { 0 };
	/* So that this thread starts and reaps the command at once. The command is ordinary. */
	struct hurry hurry = hurry_begin();
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attr;
	uint64_t start = now_ns();
	int status = -1, err;
	pid_t pid;

	posix_spawnattr_init(&attr);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSCHEDULER);
	posix_spawnattr_setschedpolicy(&attr, SCHED_OTHER);
	posix_spawnattr_setschedparam(&attr, &none);

	posix_spawn_file_actions_init(&files);
	if (out < 0)
		posix_spawn_file_actions_addopen(&files, 1, "/dev/null", O_WRONLY, 0);
	else
		posix_spawn_file_actions_adddup2(&files, out, 1);
	err = posix_spawn(&pid, SELF, &files, &attr, (char *const *)args, environ);
	posix_spawn_file_actions_destroy(&files);
	posix_spawnattr_destroy(&attr);
	while (!err && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (took)
		series_add(took, now_ns() - start);
	hurry_end(&hurry);
	if (err)
		return complain("cannot start 'ramet %s': %s", args[1], strerror(err));
	return status ? complain("'ramet %s' has failed", args[1]) : EXIT_OK;
}

/* The same; returns what the command has printed, a JSON object, or NULL. */
static json_t *command_json(const char *const *args, struct series *took)
{
	int out = memfd_create("output", MFD_CLOEXEC);
	json_error_t why;
	json_t *reply = NULL;

	if (out < 0) {
		complain("cannot make a memory file: %s", strerror(errno));
		return NULL;
	}
	if (!command(args, out, took)) {
		lseek(out, 0, SEEK_SET);
		reply = json_loadfd(out, 0, &why);
		if (!reply)
			complain("'ramet %s --json' has printed no JSON: %s", args[1], why.text);
	}
	close(out);
	return reply;
}

/* ---- before the burst ---- */

static uint64_t shells_ready(void)
{
	json_t *reply = client_ask(FAMILY, json_pack("{s:s, s:s}", "op", "stat", "vm", FAMILY));
	uint64_t n = reply ? reply_u64(json_object_get(reply, "family"), "shells_ready") : 0;

	json_decref(reply);
	return n;
}

/* Waits until n shells are ready. */
static int await_shells(uint64_t n)
{
	uint64_t until = now_ns() + SHELLS_S * 1000000000ull, ready = shells_ready();

	while (ready < n && now_ns() < until) {
		usleep(LOOK_US);
		ready = shells_ready();
	}
	return ready < n ? complain("only %u of %u shells are ready after %u s", (unsigned)ready,
				   (unsigned)n, SHELLS_S)
			 : EXIT_OK;
}

static int launch(const struct burst_result *r, const struct burst_options *o)
{
	unsigned shells = r->prepared ? o->count + 1 : 1;
	char memory[NUMBER_MAX], cpus[NUMBER_MAX], n[NUMBER_MAX];
	const char *args[ARGS_MAX] = { "ramet", "run", "--detach", "--name", FAMILY, "--guest",
		"count", "--memory", memory, "--cpus", cpus, "--shells", n, "--args",
		r->load == BURST_BUSY ? "rate=0" : "rate=1" };

	snprintf(memory, sizeof(memory), "%lluM", (unsigned long long)o->memory >> 20);
	snprintf(cpus, sizeof(cpus), "%u", o->cpus);
	snprintf(n, sizeof(n), "%u", shells);
	return command(args, -1, NULL) || await_shells(shells);
}

/* ---- the burst ---- */

static int fork_all(struct burst_result *r, const struct burst_options *o)
{
	char count[NUMBER_MAX];
	const char *args[] = { "ramet", "fork", FAMILY, "--json", "--count", count, NULL };
	uint64_t last = 0;
	json_t *reply, *vm;
	size_t i;
	int ret = EXIT_OK;

	snprintf(count, sizeof(count), "%u", o->count);
	reply = command_json(args, &r->command);
	if (!reply)
		return EXIT_TROUBLE;
	series_add(&r->returned, reply_u64(reply, "return_ns"));
	series_add(&r->pause, reply_u64(reply, "pause_ns"));
	json_array_foreach (json_object_get(reply, "clones"), i, vm) {
		uint64_t ready = reply_u64(vm, "ready_ns");

		series_add(&r->ready, ready);
		last = ready > last ? ready : last;
	}
	series_add(&r->last_ready, last);
	if (i != o->count || reply_u64(reply, "not_ready"))
		ret = complain("%u of %u clones were not seen to run",
			(unsigned)reply_u64(reply, "not_ready"), o->count);
	json_decref(reply);
	return ret;
}

/* ---- while all clones run ---- */

/* Sends one request on a new connection. */
static json_t *ask(json_t *req, struct series *took)
{
	uint64_t start = now_ns();
	json_t *reply = client_ask(FAMILY, req);

	if (reply && took)
		series_add(took, now_ns() - start);
	return reply;
}

static json_t *about(const char *op, unsigned clone)
{
	char vm[NUMBER_MAX];

	snprintf(vm, sizeof(vm), FAMILY ".%u", clone);
	return json_pack("{s:s, s:s}", "op", op, "vm", vm);
}

/* All kinds of requests once; the clone is stopped in the end. */
static int probe(struct burst_result *r, unsigned clone)
{
	json_t *stat = ask(about("stat", clone), &r->probe[PROBE_STAT]);
	json_t *list = ask(json_pack("{s:s}", "op", "list"), &r->probe[PROBE_LIST]);
	json_t *pause = ask(about("pause", clone), &r->probe[PROBE_PAUSE]);
	json_t *resume = ask(about("resume", clone), NULL);
	json_t *stop = ask(about("stop", clone), &r->probe[PROBE_STOP]);
	json_t *fork = ask(json_pack("{s:s, s:s, s:b}", "op", "fork", "vm", FAMILY, "wait", 0),
		&r->probe[PROBE_FORK]);
	bool all = stat && list && pause && resume && stop && fork;

	if (stat)
		series_add(&r->private, reply_u64(json_object_get(stat, "vm"), "private_bytes"));
	if (fork)
		series_add(&r->pause, reply_u64(fork, "pause_ns"));
	json_decref(stat);
	json_decref(list);
	json_decref(pause);
	json_decref(resume);
	json_decref(stop);
	json_decref(fork);
	return all ? EXIT_OK : EXIT_TROUBLE;
}

/* The client must not wait for a CPU: the family's answers are measured, not the scheduler. */
static int probe_all(struct burst_result *r, const struct burst_options *o)
{
	struct hurry hurry = hurry_begin();
	int ret = EXIT_OK;

	for (unsigned i = 0; i < o->probes && i < o->count && !ret; i++)
		ret = probe(r, i + 1);
	hurry_end(&hurry);
	return ret;
}

/* ---- the end ---- */

static int family_pidfd(void)
{
	json_t *reply = client_ask(FAMILY, json_pack("{s:s}", "op", "hello"));
	int pid = reply ? (int)reply_u64(reply, "pid") : 0;

	json_decref(reply);
	return pid ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
}

static int stop_all(struct burst_result *r)
{
	static const char *const args[] = { "ramet", "stop", "--all", FAMILY, NULL };
	struct pollfd family = { .fd = family_pidfd(), .events = POLLIN };
	uint64_t start = now_ns();
	int ret;

	if (family.fd < 0)
		return complain("cannot watch the process of family " FAMILY);
	ret = command(args, -1, &r->stop);
	if (!ret && poll(&family, 1, GONE_MS) != 1)
		ret = complain("the process of family " FAMILY " has not ended");
	series_add(&r->gone, now_ns() - start);
	close(family.fd);
	return ret;
}

/* After an error. It must not complain about a family that was never launched. */
static void stop_rest(void)
{
	struct client c = { .quiet = true };

	if (!client_open(&c, FAMILY)) {
		json_decref(client_call(&c, json_pack("{s:s}", "op", "stop-all")));
		client_close(&c);
	}
}

int burst_measure(struct burst_result *r, const struct burst_options *o)
{
	uint64_t floor, before, after;
	int ret = burst_floor(o, &floor);

	if (ret)
		return ret;
	series_add(&r->floor, floor);
	before = memory_available();
	ret = launch(r, o) || fork_all(r, o);
	if (!ret) {
		after = memory_available();
		series_add(&r->host_bytes, before > after ? (before - after) / o->count : 0);
		ret = probe_all(r, o);
	}
	ret = ret || stop_all(r);
	if (ret)
		stop_rest();
	return ret ? EXIT_TROUBLE : EXIT_OK;
}

void burst_results_free(struct burst_result *list)
{
	while (list) {
		struct burst_result *r = list;
		struct series *const all[] = { &r->command, &r->returned, &r->ready, &r->last_ready,
			&r->pause, &r->stop, &r->gone, &r->floor, &r->host_bytes, &r->private };

		list = r->next;
		for (unsigned i = 0; i < sizeof(all) / sizeof(all[0]); i++)
			series_free(all[i]);
		for (unsigned i = 0; i < BURST_PROBES; i++)
			series_free(&r->probe[i]);
		free(r);
	}
}
