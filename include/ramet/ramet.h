/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libramet: launch a virtual machine, fork it while it runs, and measure what that costs.
 *
 * A *family* is a VM that booted and all its clones. They share frames and tables, live in one
 * process, and have the same memory size, vCPUs and devices. Every VM has a name: the VM that
 * booted has the family's name ("web"); a clone has that name and its clone id ("web.1", "web.2"),
 * whichever VM is its parent.
 *
 * Errors: functions return 0 or -errno. A function that fails has changed nothing and has not
 * written its outputs. No function logs. A `struct ramet_err *` argument (it may be NULL) receives
 * one line that says what failed, on which object, why, and, if known, what to try.
 *
 * Concurrency: any thread may call any function, except that ramet_family_destroy() must be the
 * last call on a family. Times are CLOCK_MONOTONIC nanoseconds, sizes are bytes.
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
#define RAMET_FORK_MAX	      4096u		    /* children of one fork */
#define RAMET_SHELLS_MAX      (RAMET_FORK_MAX + 1u) /* for all children and the parent */
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
 * A clone starts with the state of its parent's random number generator. Its guest should reseed it
 * from the random bits of the clone's birth (the VM generation id; RAMET_DB_RESEED in ramet/abi.h).
 */
enum ramet_reseed {
	RAMET_RESEED_AUTO,    /* if the guest can reseed: a clone that does not reseed fails */
	RAMET_RESEED_REQUIRE, /* as AUTO; also, a VM whose guest cannot reseed is not forked */
	RAMET_RESEED_OFF,     /* ramet does not check */
};

/* What to launch. Zero means the default. Strings are copied. */
struct ramet_config {
	const char *name;   /* default: the guest's name */
	uint64_t memory;    /* a multiple of 2 MiB; default 64 MiB, with a kernel 512 MiB */
	unsigned cpus;	    /* 1..RAMET_CPUS_MAX; default 1 */
	const char *guest;  /* a built-in guest (ramet_guest_name()), or NULL */
	const char *args;   /* passed to the guest: /chosen/bootargs of its device tree */
	const char *kernel; /* a Linux kernel file instead of `guest` */
	const char *initrd;
	struct ramet_disk disks[RAMET_DISKS_MAX];
	unsigned n_disks;
	/* Number of shells kept ready, up to RAMET_SHELLS_MAX; default 2. To keep none, set `cold`.
	 */
	unsigned shells;
	bool cold;   /* keep no shell ready: every fork makes its own (to measure that) */
	bool paused; /* do not start the VM */
	/* An i8254 timer, for guests that need one. Making and closing a VM then takes longer. */
	bool pit;
	enum ramet_reseed reseed;
	unsigned reseed_ms; /* time in which a running clone must reseed; default 30000 */
	uint64_t max_pool;  /* limit for the guest memory of the family; default: no limit */
	/* Receives the console output of all VMs of the family. Called on a vCPU thread, must not
	 * block for long. */
	void (*console)(void *arg, struct ramet_vm *vm, const char *buf, size_t len);
	void *console_arg;
	/*
	 * A VM that was launched or forked has ended: it has stopped or failed, and does not run
	 * again. Called once for each, on the thread that stopped the VM, with no lock of the
	 * library held: on a thread of the library when a guest has ended its VM or the VM has
	 * failed, otherwise on that of the caller of ramet_stop(), ramet_family_stop() or
	 * ramet_family_destroy(). The call may come before the ramet_fork() that made the VM has
	 * returned. `alive` is how many VMs of the family run or are paused then: one call, and
	 * only one, is told 0. ramet_find() finds the VM until the call has returned. The call must
	 * not block long, and may call every function but ramet_fork(), which may wait for memory
	 * that VMs free whose end has yet to be told, ramet_family_stop() and
	 * ramet_family_destroy().
	 */
	void (*ended)(void *arg, struct ramet_vm *vm, uint64_t alive);
	void *ended_arg;
	/* Releases the data that ramet_vm_set_data() has attached to a VM. Called when the last
	 * reference to the VM is dropped. Locks of the library may be held, so this function must
	 * not call the library, and must not wait. */
	void (*data_free)(void *data);
};

enum ramet_state { RAMET_RUNNING, RAMET_PAUSED, RAMET_STOPPED, RAMET_FAILED };

struct ramet_stat {
	uint64_t id; /* the clone id; 0: the VM that booted */
	uint64_t parent_id;
	char name[RAMET_NAME_MAX];
	char failure[RAMET_FAILURE_MAX]; /* why, when state is RAMET_FAILED */
	enum ramet_state state;
	unsigned cpus;
	uint64_t memory;
	uint64_t births;     /* number of births: boot, forks, resets */
	uint64_t born_ns;    /* when its present birth was requested */
	uint64_t ready_ns;   /* when ramet first saw its guest run after that; 0: not yet */
	uint64_t heartbeats; /* doorbell heartbeats since it was launched or forked */
	uint32_t counter;    /* value of the last heartbeat */
	uint32_t phase;	     /* RAMET_PHASE_* */
	uint32_t report;     /* last RAMET_REPORT_* */
	uint64_t report_gpa; /* address of the last report */
	int exit_status;     /* if the guest ended the VM; otherwise -1 */
	/* Memory, if it was counted: that takes time proportional to what is mapped. */
	bool counted;		 /* the fields below hold a count; otherwise they are 0 */
	uint64_t private_bytes;	 /* pages that only this VM has */
	uint64_t shared_bytes;	 /* pages that it has accessed and that it shares */
	uint64_t deferred_bytes; /* the rest: not accessed since its birth */
	uint64_t table_bytes;	 /* second-level tables that only this VM has */
	uint64_t tables_shared;	 /* number of tables that it shares with other VMs */
};

struct ramet_family_stat {
	uint64_t vms, shells_ready, generations;
	uint64_t failed;     /* VMs that have failed, and have not been stopped since */
	uint64_t pool_bytes; /* frames with references: guest memory held once for all VMs */
	/* Host memory that the pool uses. Less than pool_bytes for frames that were never touched,
	 * more for free frames that keep their memory. */
	uint64_t pool_resident_bytes;
	uint64_t table_bytes; /* all second-level tables */
	uint64_t tables;
	/* Memory that is held more than once although no VM changed it; an upper bound. Counted by
	 * comparing the pages that VMs copied, or took back after a fork. */
	uint64_t duplicate_bytes;
	/* Memory that the family can still get before the kernel kills a process; up to one second
	 * old. When almost none is left, no new VM is made and one running VM fails. */
	uint64_t headroom_bytes;
	/* What sets that limit: "the host" or "the control group '/x'". */
	char headroom_of[RAMET_HEADROOM_OF_MAX];
	uint64_t forks, resets, resolved_spans, taken_back_spans;
	/* The most CPU time that a thread of this process has used at a real-time priority without
	 * a rest, in ns: how long another thread may have waited for it. vCPUs' threads and fault
	 * threads are not counted. */
	uint64_t realtime_max_ns;
};

/* What one fork cost. The time when a child became ready is in the child's stat. */
struct ramet_fork_times {
	uint64_t request_ns; /* when ramet_fork() was called */
	uint64_t pause_ns;   /* for how long no vCPU of the parent could run */
	uint64_t return_ns;  /* when all children had been started */
};

/* Name of the built-in guest number i; NULL after the last one. */
const char *ramet_guest_name(unsigned i);
const char *ramet_guest_help(unsigned i);

/* Launches a family. *vm is the VM that boots; the caller gets a reference to that VM. */
int ramet_launch(const struct ramet_config *cfg, struct ramet_family **family, struct ramet_vm **vm,
	struct ramet_err *err);
/* Stops every VM, also those that are forked meanwhile. All of them stand still before the first
 * one is freed. Their memory is freed by ramet_family_destroy(), which should follow soon. */
void ramet_family_stop(struct ramet_family *family);
/* Stops every VM and frees the family. All VM references must have been put before. */
void ramet_family_destroy(struct ramet_family *family);
/* Recomputes every count. 0, or -EUCLEAN with the first discrepancy in err. VMs keep running. */
int ramet_family_check(struct ramet_family *family, struct ramet_err *err);
/*
 * Counts the memory of VMs, one after another, until limit_ns have passed (UINT64_MAX: all VMs),
 * but of at least 8, or of all if there are fewer. The time for each grows with what it has mapped.
 * The next call begins after the last VM that was counted. Waits for no operation: a VM on which
 * one is under way keeps its last count. -ENOMEM: nothing was counted.
 */
int ramet_family_count(struct ramet_family *family, uint64_t limit_ns);
/* Counts the memory of all VMs, then does the same as ramet_family_stat_quick(). */
void ramet_family_stat(struct ramet_family *family, struct ramet_family_stat *st);
/* Counts nothing: cheap enough to call in a loop. duplicate_bytes is what was counted last. */
void ramet_family_stat_quick(struct ramet_family *family, struct ramet_family_stat *st);
/* Counts the memory of all VMs, then does the same as ramet_family_each_quick(). */
int ramet_family_each(
	struct ramet_family *family, int (*fn)(void *arg, const struct ramet_stat *st), void *arg);
/*
 * The memory, in bytes, that the kernel itself has for the control group of this process: what KVM
 * has for its VMs, kernel stacks, page tables and so on. *tables: how much of it are KVM's
 * second-level page tables. Includes what other processes of the group use. False: it cannot be
 * known, in the root group, with control groups of version 1, or before Linux 5.18.
 */
bool ramet_family_kernel(struct ramet_family *family, uint64_t *bytes, uint64_t *tables);
/* Calls fn for every VM, parents before their children, until fn returns non-zero. A stopped VM is
 * included as long as one of its descendants lives. fn must not call functions of the family. It
 * gets the last count of each VM's memory; before the first one, what a clone has at its birth. The
 * call waits for no operation. */
int ramet_family_each_quick(
	struct ramet_family *family, int (*fn)(void *arg, const struct ramet_stat *st), void *arg);

/* Returns a reference to the VM of that name, or NULL. */
struct ramet_vm *ramet_find(struct ramet_family *family, const char *name);
struct ramet_vm *ramet_vm_get(struct ramet_vm *vm);
void ramet_vm_put(struct ramet_vm *vm); /* vm may be NULL */
struct ramet_family *ramet_vm_family(struct ramet_vm *vm);
/* A pointer that belongs to the embedder. It is NULL at first, also in a clone. set_data() attaches
 * `data`, unless a pointer is attached already, and returns the pointer that is attached now. So if
 * several threads try, one succeeds, and the others get its pointer. Neither call takes a lock. */
void *ramet_vm_data(struct ramet_vm *vm);
void *ramet_vm_set_data(struct ramet_vm *vm, void *data);
void ramet_vm_stat(struct ramet_vm *vm, struct ramet_stat *st);
/* The same without counting memory: cheap enough to call in a loop. Takes no lock. */
void ramet_vm_stat_quick(struct ramet_vm *vm, struct ramet_stat *st);
/* For a clone, a quick stat with the memory that it had at its birth, which needs no counting:
 * nothing private, nothing looked at, all tables shared. Takes no lock. */
void ramet_vm_stat_born(struct ramet_vm *vm, struct ramet_stat *st);

/*
 * Forks a running or paused VM: the VM continues, and n children (1..RAMET_FORK_MAX) start from the
 * same moment. Children of a paused VM are paused, unless flags has RAMET_FORK_RUN. A paused VM
 * that has not run since its birth is a template: to fork it again, ramet only starts children.
 * children[n] receives references. -ESRCH: the VM has stopped. -EOPNOTSUPP: RAMET_RESEED_REQUIRE is
 * set, but the guest has not promised to reseed. -ENOMEM, -EMFILE: nothing has changed and the VM
 * keeps running.
 */
int ramet_fork(struct ramet_vm *vm, unsigned n, unsigned flags, struct ramet_vm **children,
	struct ramet_fork_times *times, struct ramet_err *err);
#define RAMET_FORK_RUN 1u /* children of a paused VM run */
/* Puts a VM back to the generation that it was born from. -EINVAL: the VM booted and was never
 * forked, so it has no such generation. */
int ramet_reset(struct ramet_vm *vm, struct ramet_err *err);
int ramet_pause(struct ramet_vm *vm, struct ramet_err *err);
int ramet_resume(struct ramet_vm *vm, struct ramet_err *err);
/* Stops a VM for ever and frees what it holds. Stopping a stopped VM is allowed. */
int ramet_stop(struct ramet_vm *vm, struct ramet_err *err);

/* Reads guest memory as the guest would see it at this moment. -EFAULT: part of it is not RAM. */
int ramet_read(struct ramet_vm *vm, uint64_t gpa, void *buf, size_t len);
/* Passes input to the guest's console: the device of the last console= on a Linux guest's command
 * line, otherwise the serial port. Returns the number of bytes taken: the UART's FIFO has 64, and a
 * VM takes none while it does not run, or stands still for a fork or a reset. The call waits for no
 * operation. */
size_t ramet_console_input(struct ramet_vm *vm, const char *buf, size_t len);

/* Waits until the VM has stopped / is ready (see ready_ns) / has reached the phase `value` or a
 * later one / has sent `value` heartbeats. 0, -ETIMEDOUT, or -ESRCH if the VM stopped before that.
 * timeout_ms < 0: no time limit. */
enum ramet_event { RAMET_EV_STOPPED, RAMET_EV_READY, RAMET_EV_PHASE, RAMET_EV_HEARTBEATS };
int ramet_wait(struct ramet_vm *vm, enum ramet_event ev, uint64_t value, int timeout_ms);

/*
 * Waiting for a VM and for other descriptors with one poll(2). From ramet_watch() to
 * ramet_unwatch() the library writes to an eventfd: for RAMET_WATCH_EVENTS whenever a ramet_wait()
 * might end; for RAMET_WATCH_INPUT when a VM that did not take all of an earlier
 * ramet_console_input() might take more. Earlier events are not reported. So after ramet_watch(),
 * and after each event, the caller calls ramet_wait() with a time-out of 0, or
 * ramet_console_input() again. The structure, the eventfd (which must not block) and the reference
 * to the VM belong to the caller.
 */
enum ramet_watch_for { RAMET_WATCH_EVENTS, RAMET_WATCH_INPUT };
struct ramet_watch {
	enum ramet_watch_for what;
	int event;
	struct ramet_watch *next; /* for the library only */
};
void ramet_watch(struct ramet_vm *vm, struct ramet_watch *watch);
void ramet_unwatch(struct ramet_vm *vm, struct ramet_watch *watch);

#endif
