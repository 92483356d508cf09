/* SPDX-License-Identifier: Apache-2.0 */
/* Ends a test that hangs, and says where each of its threads stands. */
#ifndef TESTS_KVM_WATCHDOG_H
#define TESTS_KVM_WATCHDOG_H

/*
 * From now on something has to move every `seconds`: watchdog_alive() says that it does. Otherwise,
 * and when somebody sends SIGTERM (meson does, and timeout(1), before they kill), the stacks of all
 * threads are printed to standard error, each with what the kernel says of it, and the process
 * aborts.
 *
 * Ten times as long in the emulated machine, and RAMET_SLOWER times where that is set (under
 * sanitizers). To be called before there are other threads; called again, it changes the limit.
 */
void watchdog_start(unsigned seconds);
void watchdog_alive(void);

/* The stacks of all threads, now; nothing before watchdog_start(). */
void watchdog_print_stacks(void);

#endif
