/* SPDX-License-Identifier: Apache-2.0 */
/* 'ramet bench' and its benchmarks; see struct command. */
#ifndef RAMET_VMM_BENCH_BENCHES_H
#define RAMET_VMM_BENCH_BENCHES_H

int cmd_bench(int argc, char **argv);

int cmd_bench_clone(int argc, char **argv);
int cmd_bench_reset(int argc, char **argv);
int cmd_bench_recover(int argc, char **argv);
int cmd_bench_churn(int argc, char **argv);
int cmd_bench_burst(int argc, char **argv);
int cmd_bench_tables(int argc, char **argv);

#endif
