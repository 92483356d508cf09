/* SPDX-License-Identifier: Apache-2.0 */
/* The tests. Each is run by test=NAME on the command line. */
#ifndef METAL_TESTS_H
#define METAL_TESTS_H

void test_share(void);	  /* which accesses fault after a fork, and what that costs */
void test_clones(void);	  /* no clone sees another clone's writes */
void test_validate(void); /* the processor and the library agree about every entry */
void test_dirty(void);	  /* A and D, and their harvest */
void test_walk(void);	  /* guests with their own page tables */
void test_flush(void);	  /* why flushes are needed; needs two processors */
void test_smp(void);	  /* two processors fault at the same time */
void test_smp(void);	  /* two processors fault at the same time */
void test_cost(void);	  /* instructions for a fork */

#endif
