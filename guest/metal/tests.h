/* SPDX-License-Identifier: Apache-2.0 */
/* What the program can show, each by test=NAME on the command line. */
#ifndef METAL_TESTS_H
#define METAL_TESTS_H

void test_share(void);	  /* what faults after a fork, and what it costs */
void test_clones(void);	  /* no clone sees another's writes */
void test_validate(void); /* the processor and the library agree about every entry */
void test_dirty(void);	  /* A and D, and their harvest */
void test_walk(void);	  /* guests with page tables of their own */
void test_flush(void);	  /* what flushes are for; needs two processors */
void test_smp(void);	  /* two processors fault at once */
void test_smp(void);	  /* two processors fault at once */
void test_cost(void);	  /* instructions for a fork */

#endif
