/* SPDX-License-Identifier: Apache-2.0 */
/* Ends a test that hangs, and prints the stack of each of its threads. */
#ifndef TESTS_KVM_WATCHDOG_H
#define TESTS_KVM_WATCHDOG_H

/*
 * Starts the watchdog: from now on watchdog_alive() must be called at least every `seconds`.
 * Otherwise the stacks of all threads are printed to standard error, with the kernel's information
 * on each, and the process aborts. The same happens at a SIGTERM, which meson and timeout(1) send
 * before they kill.
 *
 * The limit is ten times longer in the emulated machine, and RAMET_SLOWER times longer if that is
 * set (under sanitizers). The first call must come before there are other threads. Further calls
 * change the limit.
 */
void watchdog_start(unsigned seconds);
void watchdog_alive(void);

/* Prints the stacks of all threads now. Does nothing before watchdog_start(). */
void watchdog_print_stacks(void);

#endif
