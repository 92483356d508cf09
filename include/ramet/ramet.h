/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libramet: launch a virtual machine, fork it while it runs, look at what it costs.
 *
 * A *family* is a VM that booted and all its clones; they share frames and tables, live in one
 * process and look the same in size and shape. Every VM has a name: the family's for the one that
 * booted ("web"), that and its clone id for a clone ("web.1", "web.2", whoever the parent).
 *
 * Errors: functions return 0 or -errno, do all or nothing, leave outputs untouched on failure
 * and never log. Where a `struct ramet_err *` is taken (it may be NULL) it receives one line that
 * says what failed, on what, why, and, where we know, what to try.
 *
 * Concurrency: every function may be called from any thread, but ramet_family_destroy(), which
 * must be the last call on a family. Times are CLOCK_MONOTONIC nanoseconds, sizes bytes.
 */
#ifndef RAMET_RAMET_H
#define RAMET_RAMET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RAMET_NAME_MAX	      64u
#define RAMET_FAILURE_MAX     224u
#define RAMET_HEADROOM_OF_MAX 80u
#define RAMET_CPUS_MAX	      8u
#define RAMET_MEMORY_MIN      (16ull << 20)
#define RAMET_MEMORY_MAX      (64ull << 30)
#define RAMET_FORK_MAX	      4096u /* children of one fork */
#define RAMET_DISKS_MAX	      4u

struct ramet_family;
struct ramet_vm;

struct ramet_err {
	char msg[320];
};

struct ramet_disk {
	const char *path;
	bool readonly;
};

/*
 * A clone has its parent's random number generator until its guest reseeds it from the bits of its
 * own birth (the VM generation id; RAMET_DB_RESEED in ramet/abi.h).
 */
enum ramet_reseed {
	RAMET_RESEED_AUTO,    /* a guest that can do it must: a clone that does not, fails */
	RAMET_RESEED_REQUIRE, /* and one that cannot, is not forked */
	RAMET_RESEED_OFF,     /* nobody looks */
};

/* What to launch. Zero means the default. Strings are copied. */
struct ramet_config {
	const char *name;   /* default: the guest's name */
	uint64_t memory;    /* a multiple of 2 MiB; default 64 MiB, with a kernel 512 MiB */
	unsigned cpus;	    /* 1..RAMET_CPUS_MAX; default 1 */
	const char *guest;  /* a built-in guest (ramet_guest_name()), or NULL */
	const char *args;   /* for the guest: /chosen/bootargs of its device tree */
	const char *kernel; /* a Linux kernel file instead of `guest` */
	const char *initrd;
	struct ramet_disk disks[RAMET_DISKS_MAX];
	unsigned n_disks;
	unsigned shells; /* shells kept ready ahead; default 2. 0 cannot be asked for */
	bool cold;	 /* keep none ready: every fork makes its own (to measure that) */
	bool paused;	 /* do not start the VM */
	bool pit; /* an i8254 timer, for guests that insist; making and closing a VM takes longer */
	enum ramet_reseed reseed;
	unsigned reseed_ms; /* that a running clone has for it; default 30000 */
	uint64_t max_pool;  /* most bytes of guest memory the family may hold; default: no limit */
	/* Console output of any VM of the family; called on a vCPU thread, must not block long. */
	void (*console)(void *arg, struct ramet_vm *vm, const char *buf, size_t len);
	void *console_arg;
};

enum ramet_state { RAMET_RUNNING, RAMET_PAUSED, RAMET_STOPPED, RAMET_FAILED };

struct ramet_stat {
	uint64_t id; /* 0: the VM that booted; else the clone id */
	uint64_t parent_id;
	char name[RAMET_NAME_MAX];
	char failure[RAMET_FAILURE_MAX]; /* why, when state is RAMET_FAILED */
	enum ramet_state state;
	unsigned cpus;
	uint64_t memory;
	uint64_t births;     /* boot, forks and resets it went through */
	uint64_t born_ns;    /* when its present birth was asked for */
	uint64_t ready_ns;   /* when its first instruction after that was seen from outside; 0: not
				yet */
	uint64_t heartbeats; /* doorbell heartbeats since it was launched or forked */
	uint32_t counter;    /* value of the last one */
	uint32_t phase;	     /* RAMET_PHASE_* */
	uint32_t report;     /* last RAMET_REPORT_*, with its address */
	uint64_t report_gpa;
	int exit_status; /* when stopped by its guest; else -1 */
	/* Memory; counted when asked for, in time proportional to what is mapped. */
	uint64_t private_bytes;	 /* pages only this VM has */
	uint64_t shared_bytes;	 /* pages it has looked at, and shares */
	uint64_t deferred_bytes; /* the rest: it has not looked at them since its birth */
	uint64_t table_bytes;	 /* second-level tables only this VM has */
	uint64_t tables_shared;	 /* tables it shares with others */
};

struct ramet_family_stat {
	uint64_t vms, shells_ready, generations;
	uint64_t pool_bytes;	      /* frames with references: guest memory held once for all */
	uint64_t pool_resident_bytes; /* what the pool takes of the host; untouched frames and kept
					 free ones make the difference */
	uint64_t table_bytes;	      /* all second-level tables */
	uint64_t tables;
	/* Held more than once without having been changed, at most. Counted when asked for, by
	 * comparing what VMs copied or took back after a fork. */
	uint64_t duplicate_bytes;
	/* Memory that it may still have before the kernel kills somebody, and whose limit that is
	 * ("the host", "the control group '/x'"); up to a second old. When there is next to none no
	 * VM is made, and one that runs fails. */
	uint64_t headroom_bytes;
	char headroom_of[RAMET_HEADROOM_OF_MAX];
	uint64_t forks, resets, resolved_spans, taken_back_spans;
};

/* What one fork cost. A child's own ready time is in its stat. */
struct ramet_fork_times {
	uint64_t request_ns; /* when ramet_fork() was entered */
	uint64_t pause_ns;   /* length of time in which no vCPU of the parent could run */
	uint64_t return_ns;  /* when all children had been started */
};

/* Names of the built-in guests, NULL past the last. */
const char *ramet_guest_name(unsigned i);
const char *ramet_guest_help(unsigned i);

/* Launches a family; *vm is the VM that booted. The caller owns a reference to it. */
int ramet_launch(const struct ramet_config *cfg, struct ramet_family **family, struct ramet_vm **vm,
	struct ramet_err *err);
/* Stops every VM and releases all. Outstanding VM references must have been put before. */
void ramet_family_destroy(struct ramet_family *family);
/* Recomputes every count. 0, or -EUCLEAN with the first discrepancy in err. VMs go on running. */
int ramet_family_check(struct ramet_family *family, struct ramet_err *err);
void ramet_family_stat(struct ramet_family *family, struct ramet_family_stat *st);
/* The same without duplicates: cheap enough for a loop. */
void ramet_family_stat_quick(struct ramet_family *family, struct ramet_family_stat *st);
/* Calls fn for every VM, parents before their children, until it returns non-zero. Stopped VMs
 * are seen while a descendant lives. fn must not call back into the family. */
int ramet_family_each(
	struct ramet_family *family, int (*fn)(void *arg, const struct ramet_stat *st), void *arg);

/* A reference to the VM of that name, or NULL. */
struct ramet_vm *ramet_find(struct ramet_family *family, const char *name);
struct ramet_vm *ramet_vm_get(struct ramet_vm *vm);
void ramet_vm_put(struct ramet_vm *vm); /* NULL is fine */
struct ramet_family *ramet_vm_family(struct ramet_vm *vm);
void ramet_vm_stat(struct ramet_vm *vm, struct ramet_stat *st);
/* The same without counting memory: cheap enough for a loop. */
void ramet_vm_stat_quick(struct ramet_vm *vm, struct ramet_stat *st);

/*
 * Forks a running or paused VM into itself and n children (1..RAMET_FORK_MAX); children of a
 * paused VM are paused, unless flags has RAMET_FORK_RUN. A paused VM that has not run since its
 * birth is a template: forking it again takes nothing but starting children. children[n] receives
 * references. -ESRCH: the VM has stopped. -EOPNOTSUPP: RAMET_RESEED_REQUIRE, but its guest has not
 * promised to reseed. -ENOMEM, -EMFILE: nothing has changed and the VM goes on running.
 */
int ramet_fork(struct ramet_vm *vm, unsigned n, unsigned flags, struct ramet_vm **children,
	struct ramet_fork_times *times, struct ramet_err *err);
#define RAMET_FORK_RUN 1u /* children of a paused VM run */
/* Puts a clone back to the generation it was born from. -EINVAL on a VM that booted and never
 * forked. */
int ramet_reset(struct ramet_vm *vm, struct ramet_err *err);
int ramet_pause(struct ramet_vm *vm, struct ramet_err *err);
int ramet_resume(struct ramet_vm *vm, struct ramet_err *err);
/* Stops for good and gives all of it back. Stopping a stopped VM is fine. */
int ramet_stop(struct ramet_vm *vm, struct ramet_err *err);

/* Reads guest memory, as the guest would see it at this moment. -EFAULT: not all of it is RAM. */
int ramet_read(struct ramet_vm *vm, uint64_t gpa, void *buf, size_t len);
/* Input for the console: a Linux guest's last console= on its command line, else the serial port.
 * Returns how much was taken (the UART's FIFO is 64 bytes deep). */
size_t ramet_console_input(struct ramet_vm *vm, const char *buf, size_t len);

/* Waiting: until the VM has stopped / is ready (see ready_ns) / has reached that phase or a later
 * one / has beaten `value` times. 0, -ETIMEDOUT, or -ESRCH when it stopped before. timeout_ms < 0:
 * for ever. */
enum ramet_event { RAMET_EV_STOPPED, RAMET_EV_READY, RAMET_EV_PHASE, RAMET_EV_HEARTBEATS };
int ramet_wait(struct ramet_vm *vm, enum ramet_event ev, uint64_t value, int timeout_ms);

#endif
