/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/cli/run-options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "guest/guests.h"
#include "vmm/cli/command.h"
#include "vmm/control/rundir.h"

enum {
	OPT_GUEST = 256,
	OPT_ARGS,
	OPT_KERNEL,
	OPT_INITRD,
	OPT_CMDLINE,
	OPT_DISK,
	OPT_LIMIT,
	OPT_RESEED,
	OPT_PAUSED,
	OPT_PIT,
	OPT_NO_SANDBOX,
	OPT_SHELLS
};

static const struct argp_option options[] = {
	{ "name", 'n', "NAME", 0, "Name of the family (the guest's, or 'linux')", 0 },
	{ "memory", 'm', "SIZE", 0,
		"Guest memory, 16M to 64G in steps of 2M (64M; 512M with --kernel)", 0 },
	{ "cpus", 'c', "N", 0, "vCPUs, 1 to 8 (1)", 0 },
	{ "detach", 'd', NULL, 0,
		"Print the VM's name and return when it runs; it continues in the background", 0 },
	{ "paused", OPT_PAUSED, NULL, 0, "Leave the VM paused, until 'ramet resume'", 0 },
	{ "limit", OPT_LIMIT, "SIZE", 0,
		"Limit for all guest memory of the family; at least one VM's memory (no limit)",
		0 },
	{ "pit", OPT_PIT, NULL, 0,
		"Give the VM an i8254 timer, for guests that need one; VMs then take longer to "
		"make",
		0 },
	{ "shells", OPT_SHELLS, "N", 0,
		"KVM VMs kept ready for forks, 1 to 4097 (2): a fork uses one for each clone and "
		"one for the parent, and waits 1 ms for each missing one",
		0 },
	{ "no-sandbox", OPT_NO_SANDBOX, NULL, 0,
		"Keep the rights to start programs, open sockets and so on, which the process "
		"otherwise gives up before the guest runs; also allow debuggers and core files",
		0 },
	{ "reseed", OPT_RESEED, "WHEN", 0,
		"auto: a clone fails if its guest can reseed its random numbers but does not "
		"within "
		"30 s (the default); require: also refuse to fork a guest that cannot; off: no "
		"check",
		0 },
	{ NULL, 0, NULL, 0, "What to run:", 1 },
	{ "guest", OPT_GUEST, "NAME", 0, "A built-in guest; see the list below", 1 },
	{ "args", OPT_ARGS, "STRING", 0, "KEY=VALUE words for the built-in guest", 1 },
	{ "kernel", OPT_KERNEL, "FILE", 0, "A Linux kernel: bzImage or ELF with a PVH entry", 1 },
	{ "initrd", OPT_INITRD, "FILE", 0, "Its initial RAM disk", 1 },
	{ "cmdline", OPT_CMDLINE, "STRING", 0,
		"Its command line (console=ttyS0 is the serial port)", 1 },
	{ "disk", OPT_DISK, "FILE[,ro]", 0,
		"A raw disk image; up to 4 times. The image is never written: each VM writes to an "
		"overlay of its own",
		1 },
	{ 0 },
};

void option_disk(struct argp_state *state, struct ramet_config *cfg, char *arg)
{
	char *comma = strrchr(arg, ',');
	bool ro = comma && !strcmp(comma, ",ro");

	if (cfg->n_disks == RAMET_DISKS_MAX)
		argp_error(state, "--disk: at most %u of them", RAMET_DISKS_MAX);
	if (ro)
		*comma = '\0';
	cfg->disks[cfg->n_disks++] = (struct ramet_disk){ .path = arg, .readonly = ro };
}

static enum ramet_reseed parse_reseed(struct argp_state *state, const char *arg)
{
	static const char *const when[] = { "auto", "require", "off" };

	for (unsigned i = 0; i < sizeof(when) / sizeof(when[0]); i++)
		if (!strcmp(arg, when[i]))
			return (enum ramet_reseed)i;
	argp_error(state, "--reseed: '%s' is none of auto, require, off", arg);
	return RAMET_RESEED_AUTO;
}

/* Refuses an unknown guest, and arguments (if not NULL) that the guest does not accept. */
static void check_guest(struct argp_state *state, const char *guest, const char *args)
{
	char why[320];

	/* The size of memory is not known yet; the library checks it later. */
	if (guest_args_check(guest, args, UINT64_MAX, why, sizeof(why)))
		argp_error(state, "%s: %s", args ? "--args" : "--guest", why);
}

/* Checks options that depend on each other. */
static void check_together(struct argp_state *state, struct ramet_config *cfg, const char *cmdline)
{
	if (!cfg->guest == !cfg->kernel)
		argp_error(state, "give either --guest or --kernel");
	if (cfg->guest && (cfg->initrd || cmdline || cfg->n_disks))
		argp_error(state, "--initrd, --cmdline and --disk go with --kernel");
	if (cfg->kernel && cfg->args)
		argp_error(state, "--args goes with --guest; a kernel takes --cmdline");
	if (cfg->guest && cfg->args)
		check_guest(state, cfg->guest, cfg->args);
	if (cfg->memory % (2u << 20))
		argp_error(state, "--memory: must be a multiple of 2M");
	if (cmdline)
		cfg->args = cmdline;
	if (!cfg->name)
		cfg->name = cfg->guest ? cfg->guest : "linux";
	if (!family_name_ok(cfg->name))
		argp_error(state,
			"--name: '%s' cannot be a name; use up to %u letters, digits, '-' and '_'",
			cfg->name, FAMILY_NAME_MAX);
}

static const char *cmdline;

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct run_options *o = state->input;
	struct ramet_config *cfg = &o->cfg;

	switch (key) {
	case 'n':
		cfg->name = arg;
		return 0;
	case 'm':
		cfg->memory = opt_size(state, "--memory", arg, RAMET_MEMORY_MIN, RAMET_MEMORY_MAX);
		return 0;
	case 'c':
		cfg->cpus = (unsigned)opt_number(state, "--cpus", arg, 1, RAMET_CPUS_MAX);
		return 0;
	case 'd':
		o->detach = true;
		return 0;
	case OPT_PAUSED:
		cfg->paused = true;
		return 0;
	case OPT_LIMIT:
		cfg->max_pool = opt_size(state, "--limit", arg, 1u << 20, UINT64_MAX);
		return 0;
	case OPT_PIT:
		cfg->pit = true;
		return 0;
	case OPT_SHELLS:
		cfg->shells = (unsigned)opt_number(state, "--shells", arg, 1, RAMET_SHELLS_MAX);
		return 0;
	case OPT_NO_SANDBOX:
		o->no_sandbox = true;
		return 0;
	case OPT_RESEED:
		cfg->reseed = parse_reseed(state, arg);
		return 0;
	case OPT_GUEST:
		check_guest(state, arg, NULL);
		cfg->guest = arg;
		return 0;
	case OPT_ARGS:
		cfg->args = arg;
		return 0;
	case OPT_KERNEL:
		cfg->kernel = arg;
		return 0;
	case OPT_INITRD:
		cfg->initrd = arg;
		return 0;
	case OPT_CMDLINE:
		cmdline = arg;
		return 0;
	case OPT_DISK:
		option_disk(state, cfg, arg);
		return 0;
	case ARGP_KEY_END:
		check_together(state, cfg, cmdline);
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

/* Lists the built-in guests after the options. */
static char *help_filter(int key, const char *text, void *input)
{
	char *out = NULL;
	size_t size;
	FILE *f;

	if (key != ARGP_KEY_HELP_POST_DOC || !(f = open_memstream(&out, &size)))
		return (char *)text;
	fputs("Built-in guests:\n", f);
	for (unsigned i = 0; ramet_guest_name(i); i++)
		fprintf(f, "  %-8s %s\n", ramet_guest_name(i), ramet_guest_help(i));
	fprintf(f, "\n%s", text);
	fclose(f);
	return out;
}

static const struct argp argp = {
	options,
	parse,
	NULL,
	"Launches a VM. Its serial console is this terminal, and its exit status becomes this "
	"command's.\n\n"
	"Ctrl-C stops the VM. If clones of it still run then, the command waits for them; a second "
	"Ctrl-C stops them, too. All other keys go to the guest. SIGTERM and SIGHUP stop all VMs. "
	"Use 'ramet console' to send Ctrl-C to a guest.\v"
	"Examples:\n"
	"  ramet run --guest count\n"
	"  ramet run --name web --memory 1G --guest dirty --args dirty=512M --detach\n"
	"  ramet run --kernel vmlinuz --initrd initrd.img --cmdline console=ttyS0\n\n"
	"Exit status: the guest's; 1 if the VM failed or could not be launched; 2 for bad usage; "
	"130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP; 141 if the reader of its output is "
	"gone. With --detach it is 0 once the VM runs, otherwise the reason is on stderr.",
	NULL,
	help_filter,
	NULL,
};

void run_options_parse(struct run_options *o, int argc, char **argv)
{
	*o = (struct run_options){ 0 };
	command_parse(&argp, argc, argv, o);
}
