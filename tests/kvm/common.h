/* SPDX-License-Identifier: Apache-2.0 */
/* Functions for tests of whole families: launch, wait, random numbers, checks for leaks. */
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
#define WAIT_MS	  60000 /* long: a test never asserts a time, it only gives up */
#define SKIP_EXIT 77
/* If no library call returns for this long, the test hangs (watchdog.h). */
#define HANG_SECONDS (WAIT_MS / 1000 + 40)

/* Asserts that a library call returned 0, and prints the error's text if not. */
#define assert_ok(ret, err) check_ok((ret), (err), __FILE__, __LINE__)
void check_ok(int ret, const struct ramet_err *err, const char *file, int line);

struct family {
	struct ramet_family *family;
	struct ramet_vm *root;
};

/* Launches a family of a built-in guest, and waits for RAMET_PHASE_READY. */
struct family launch(const char *guest, const char *args, uint64_t memory, unsigned cpus);
struct family launch_config(struct ramet_config *cfg); /* sets the console of cfg */
/* Checks all counts, puts the root, destroys the family. Other references must be put before. */
void finish(struct family *f);

/* Fork one child, or n children. */
struct ramet_vm *fork_one(struct ramet_vm *vm);
void fork_many(struct ramet_vm *vm, unsigned n, struct ramet_vm **children);
/* Stops the VM and puts the reference. */
void stop_and_put(struct ramet_vm *vm);

/* Fails the VM, and makes its vCPUs leave the guest at once. */
void fail_now(struct ramet_vm *vm);

/* Fails unless the VM runs or is paused, and its guest has reported no fault. */
void assert_healthy(struct ramet_vm *vm);
/* Waits until the VM has failed, with a reason, but without a report by its guest. */
void await_failure(struct ramet_vm *vm, struct ramet_stat *st);
/* Waits until the VM has sent n more heartbeats. */
void await_beats(struct ramet_vm *vm, uint64_t n);

/* Waits until `least` to `most` shells are ready. */
void await_shells(struct ramet_family *family, uint64_t least, uint64_t most);

/* The seed is RAMET_SEED or the time; it is printed once. Each thread has its own sequence. */
uint64_t rnd(uint64_t below);
/* Sleeps a random time below max_us. */
void rnd_sleep(unsigned max_us);

/* The time for a soak test: RAMET_SOAK_SECONDS, or `seconds`. */
double soak_end(unsigned seconds); /* returns the end, on the clock of now_s() */
double now_s(void);
/* Returns `most`, or `few` in the emulated machine of scripts/nested, which is ten times slower. */
unsigned many_or_few(unsigned most, unsigned few);

/* Numbers of descriptors, threads, and mappings of memory files or of KVM in this process. */
struct resources {
	unsigned fds, threads, maps;
};
struct resources resources_now(void);
/* Waits until there are no more than before; background threads may still free some. */
void assert_no_leak(struct resources before);

/* Runs the tests (RAMET_TEST: those whose name matches), or SKIP_EXIT without a usable /dev/kvm. */
#define kvm_run_tests(tests) (kvm_usable() ? cmocka_run_group_tests(tests, NULL, NULL) : SKIP_EXIT)
bool kvm_usable(void);

#endif
