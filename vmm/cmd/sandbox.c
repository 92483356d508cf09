/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/cmd/sandbox.h"

#include <errno.h>
#include <sched.h>
#include <seccomp.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "vmm/base/err.h"

/*
 * A list of refused calls, not of allowed calls: new C libraries use other harmless calls, and a
 * call that is refused by mistake would stop running VMs.
 */
static const int refused[] = {
	/* programs and processes; for threads see below */
	SCMP_SYS(execve), SCMP_SYS(execveat), SCMP_SYS(fork), SCMP_SYS(vfork), SCMP_SYS(ptrace),
	SCMP_SYS(process_vm_readv), SCMP_SYS(process_vm_writev), SCMP_SYS(kill), SCMP_SYS(tkill),
	SCMP_SYS(rt_sigqueueinfo), SCMP_SYS(pidfd_open), SCMP_SYS(pidfd_getfd),
	SCMP_SYS(pidfd_send_signal), SCMP_SYS(kcmp),
	/* the network; the control socket is open already */
	SCMP_SYS(socket), SCMP_SYS(connect), SCMP_SYS(bind),
	/* privileges and name spaces */
	SCMP_SYS(setuid), SCMP_SYS(setgid), SCMP_SYS(setreuid), SCMP_SYS(setregid),
	SCMP_SYS(setresuid), SCMP_SYS(setresgid), SCMP_SYS(setgroups), SCMP_SYS(setfsuid),
	SCMP_SYS(setfsgid), SCMP_SYS(capset), SCMP_SYS(setns), SCMP_SYS(unshare), SCMP_SYS(chroot),
	SCMP_SYS(pivot_root), SCMP_SYS(mount), SCMP_SYS(umount2), SCMP_SYS(open_by_handle_at),
	SCMP_SYS(add_key), SCMP_SYS(request_key), SCMP_SYS(keyctl),
	/* the kernel */
	SCMP_SYS(init_module), SCMP_SYS(finit_module), SCMP_SYS(delete_module),
	SCMP_SYS(kexec_load), SCMP_SYS(kexec_file_load), SCMP_SYS(bpf), SCMP_SYS(perf_event_open),
	SCMP_SYS(reboot), SCMP_SYS(swapon), SCMP_SYS(swapoff), SCMP_SYS(iopl), SCMP_SYS(ioperm),
	SCMP_SYS(io_uring_setup)
};

static int add_rules(scmp_filter_ctx filter)
{
	int r = 0;

	for (unsigned i = 0; i < sizeof(refused) / sizeof(refused[0]) && !r; i++)
		r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), refused[i], 0);
	/* Allow threads, but no processes. clone3 is refused, since its flags are in memory, which
	 * a filter cannot read; the C library then uses clone. */
	if (!r)
		r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(clone), 1,
			SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, 0));
	if (!r)
		r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
	/* Allow signals only to the process's own threads. */
	if (!r)
		r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(tgkill), 1,
			SCMP_A0(SCMP_CMP_NE, (scmp_datum_t)getpid(), 0));
	return r;
}

#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
/* AddressSanitizer: at the end a tracing process looks for leaks. */
static const bool wanted = false;
#else
static const bool wanted = true;
#endif

static int enter(void)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
	int r = filter ? add_rules(filter) : -ENOMEM;

	if (!r)
		r = seccomp_load(filter); /* sets no_new_privs, too */
	if (filter)
		seccomp_release(filter);
	return r;
}

int sandbox_enter(struct ramet_err *err)
{
	int r = wanted ? enter() : 0;

	return r ? err_set(err, r,
			   "cannot give up privileges with seccomp: %s; --no-sandbox runs the VM "
			   "without this protection",
			   strerror(-r))
		 : 0;
}

void sandbox_no_core(void)
{
	const struct rlimit none = { 0, 0 };

	if (!wanted)
		return;
	setrlimit(RLIMIT_CORE, &none);
	/* The limit for core files does not help if core files are piped to a program. */
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}
