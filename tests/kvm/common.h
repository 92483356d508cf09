/* SPDX-License-Identifier: Apache-2.0 */
/* What tests of whole families share: launching, waiting, choosing at random, looking for leaks. */
#ifndef TESTS_KVM_COMMON_H
#define TESTS_KVM_COMMON_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "include/ramet/abi.h"
#include "include/ramet/ramet.h"

#define MIB	  (1ull << 20)
#define WAIT_MS	  60000 /* generous: a test never asserts a time, it only gives up */
#define SKIP_EXIT 77
/* After so long without a library call that came back, a test hangs (watchdog.h). */
#define HANG_SECONDS (WAIT_MS / 1000 + 40)

/* Asserts that a library call returned 0, and prints the error's text if not. */
#define assert_ok(ret, err) check_ok((ret), (err), __FILE__, __LINE__)
void check_ok(int ret, const struct ramet_err *err, const char *file, int line);

struct family {
	struct ramet_family *family;
	struct ramet_vm *root;
};

/* A family of a built-in guest, waited for until RAMET_PHASE_READY. */
struct family launch(const char *guest, const char *args, uint64_t memory, unsigned cpus);
struct family launch_config(struct ramet_config *cfg); /* its console is ours */
/* Checks all counts, puts the root, destroys. All other references must have been put. */
void finish(struct family *f);

/* One child, or n. */
struct ramet_vm *fork_one(struct ramet_vm *vm);
void fork_many(struct ramet_vm *vm, unsigned n, struct ramet_vm **children);
/* Stops the VM and puts the reference. */
void stop_and_put(struct ramet_vm *vm);

/* Fails unless the VM runs (or is paused) and has nothing to report. */
void assert_healthy(struct ramet_vm *vm);
/* Waits until the VM has failed: with a reason, and nothing to report. */
void await_failure(struct ramet_vm *vm, struct ramet_stat *st);
/* Waits until the VM has beaten n times more than now. */
void await_beats(struct ramet_vm *vm, uint64_t n);

/* The seed is RAMET_SEED or the time; it is printed once. Each thread has numbers of its own. */
uint64_t rnd(uint64_t below);
/* Sleeps a random time below max_us. */
void rnd_sleep(unsigned max_us);

/* How long a soak takes: RAMET_SOAK_SECONDS, or `seconds`. */
double soak_end(unsigned seconds); /* on the clock of now_s() */
double now_s(void);
/* `most`, or `few` in the emulated machine of scripts/nested, where all takes ten times longer. */
unsigned many_or_few(unsigned most, unsigned few);

/* Descriptors, threads, and mappings of memory files or of KVM, that this process has. */
struct resources {
	unsigned fds, threads, maps;
};
struct resources resources_now(void);
/* Waits (background threads may still give back) until there are no more than before. */
void assert_no_leak(struct resources before);

/* Runs the tests (RAMET_TEST: those whose name matches), or SKIP_EXIT without a usable /dev/kvm. */
#define kvm_run_tests(tests) (kvm_usable() ? cmocka_run_group_tests(tests, NULL, NULL) : SKIP_EXIT)
bool kvm_usable(void);

#endif
