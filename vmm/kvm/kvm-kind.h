/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What stands behind /dev/kvm. One that runs guests by VMX or SVM runs anything. One without them
 * (kvm_pvm: a guest's kernel mode is interpreted) runs what it can interpret, and early Linux is
 * not that: it meets an instruction that KVM's emulator lacks, sooner or later, and fails.
 */
#ifndef RAMET_VMM_KVM_KVM_KIND_H
#define RAMET_VMM_KVM_KVM_KIND_H

#include "include/ramet/ramet.h"

enum kvm_kind {
	KVM_KIND_UNKNOWN, /* nothing tells; give it the benefit of the doubt */
	KVM_KIND_HARDWARE,
	KVM_KIND_SOFTWARE,
};

/*
 * RAMET_KVM_KIND in the environment ("hardware" or "software") knows better. Otherwise: the modules
 * that are there, and whether the processor has VMX or SVM at all, without which kvm_intel and
 * kvm_amd may be built in but do nothing. root stands for "/" ("" is the real one).
 */
enum kvm_kind kvm_kind(const char *root);

/* 0, or -ENOTSUP with a line that says what to do: this host's runs no Linux kernel. */
int kvm_runs_linux(struct ramet_err *err);

#endif
