/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kind of KVM behind /dev/kvm. A KVM that uses VMX or SVM runs any guest. A KVM without them
 * (kvm_pvm) interprets a guest's kernel mode. It cannot run Linux: early in the boot, Linux uses
 * an instruction that KVM's emulator lacks, and fails.
 */
#ifndef RAMET_VMM_KVM_KVM_KIND_H
#define RAMET_VMM_KVM_KVM_KIND_H

#include "include/ramet/ramet.h"

enum kvm_kind {
	KVM_KIND_UNKNOWN, /* not known; treated like hardware */
	KVM_KIND_HARDWARE,
	KVM_KIND_SOFTWARE,
};

/*
 * RAMET_KVM_KIND in the environment ("hardware" or "software") overrides the detection. Otherwise
 * the result depends on the loaded modules, and on whether the processor has VMX or SVM: without
 * these, kvm_intel and kvm_amd may be built in but do nothing. root: a directory to use instead of
 * "/" ("" for the real one).
 */
enum kvm_kind kvm_kind(const char *root);

/* 0, or -ENOTSUP and an error that says what to do: this host's KVM runs no Linux kernel. */
int kvm_runs_linux(struct ramet_err *err);

#endif
