/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A burst: one fork into many running clones, what it costs, how the family answers its clients
 * while all clones run, and how it ends. All of it is measured from outside, by the commands that a
 * user would type and on the control socket.
 */
#ifndef RAMET_VMM_BENCH_BURST_H
#define RAMET_VMM_BENCH_BURST_H

#include "vmm/bench/bench.h"

enum burst_load {
	BURST_BUSY,	/* each clone uses all the time that it gets */
	BURST_SLEEPING, /* each clone wakes up once a second */
	BURST_LOADS
};

/* Requests that are timed while all clones run: from connect(2) to the reply. */
enum burst_probe {
	PROBE_STAT,
	PROBE_LIST,
	PROBE_PAUSE,
	PROBE_STOP,
	PROBE_FORK, /* of one more clone */
	BURST_PROBES
};

struct burst_options {
	uint64_t memory;
	unsigned count, cpus, reps, probes;
};

/* One combination and its measurements. */
struct burst_result {
	enum burst_load load;
	bool prepared;		  /* a shell for each clone is ready before the fork */
	struct series command;	  /* the whole command "ramet fork" */
	struct series returned;	  /* the request, until all clones have been started */
	struct series ready;	  /* each clone's first sign of life */
	struct series last_ready; /* of each burst, the last clone's */
	struct series pause;	  /* each fork's: the burst's and the probes' */
	struct series stop;	  /* "ramet stop --all": all clones stand still */
	struct series gone;	  /* from the start of that command to the end of the process */
	struct series floor;	  /* see burst_floor() */
	struct series probe[BURST_PROBES];
	struct series host_bytes; /* memory that the host has lost, for each clone */
	struct series private;	  /* bytes that only one clone has */
	struct burst_result *next;
};

/* Makes one burst, and adds to r. EXIT_OK, or EXIT_TROUBLE: an error, which has been printed. */
int burst_measure(struct burst_result *r, const struct burst_options *o);

/*
 * The baseline: makes as many VMs as fast as one can without ramet, and without running them. Each
 * is a fresh KVM VM with an interrupt controller and the registers of one vCPU, over a private
 * mapping of a memory file that holds the frozen guest. This is the least that a cloner needs that
 * lets the kernel copy pages. *ns: the time for all of them. EXIT_OK or EXIT_TROUBLE.
 */
int burst_floor(const struct burst_options *o, uint64_t *ns);

void burst_results_free(struct burst_result *list);
void burst_print_table(struct burst_result *results, const struct burst_options *o);
json_t *burst_json(struct burst_result *results, const struct burst_options *o);
int burst_write_csv(struct burst_result *results, const struct burst_options *o, const char *file);
int burst_plot(struct burst_result *results, const struct burst_options *o, const char *file);

#endif
