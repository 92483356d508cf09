/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RAMET_VMM_CLI_RUN_OPTIONS_H
#define RAMET_VMM_CLI_RUN_OPTIONS_H

#include "include/ramet/ramet.h"

struct argp_state;

struct run_options {
	struct ramet_config cfg; /* name is set; strings point into argv */
	bool detach;
	bool no_sandbox;
};

/* Does not return on bad usage. */
void run_options_parse(struct run_options *o, int argc, char **argv);

/* --disk FILE[,ro]: into cfg, which keeps arg. */
void option_disk(struct argp_state *state, struct ramet_config *cfg, char *arg);

#endif
