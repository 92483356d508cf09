/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/kvm/kvm-kind.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/err.h"

static bool module_there(const char *root, const char *name)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/sys/module/%s", root, name);
	return !access(path, F_OK);
}

/* True if `word` is one of the words of the line. */
static bool has_word(const char *line, const char *word)
{
	size_t len = strlen(word);

	for (const char *at = line; (at = strstr(at, word)); at += len)
		if (at > line && strchr(" \t", at[-1]) && strchr(" \t\n", at[len]))
			return true;
	return false;
}

/* Uses the flags of the first processor: KVM needs all processors to be alike. Under a hypervisor
 * with nesting, and in a container, the file shows the flags of the kernel that runs this process,
 * which are the right ones. */
static enum kvm_kind processor(const char *root)
{
	enum kvm_kind kind = KVM_KIND_UNKNOWN;
	char path[PATH_MAX], *line = NULL;
	size_t size = 0;
	FILE *f;

	snprintf(path, sizeof(path), "%s/proc/cpuinfo", root);
	f = fopen(path, "re");
	while (f && !kind && getline(&line, &size, f) >= 0)
		if (!strncmp(line, "flags", 5))
			kind = has_word(line, "vmx") || has_word(line, "svm") ? KVM_KIND_HARDWARE
									      : KVM_KIND_SOFTWARE;
	if (f)
		fclose(f);
	free(line);
	return kind;
}

enum kvm_kind kvm_kind(const char *root)
{
	const char *told = getenv("RAMET_KVM_KIND");
	enum kvm_kind kind;

	if (told && !strcmp(told, "hardware"))
		return KVM_KIND_HARDWARE;
	if (told && !strcmp(told, "software"))
		return KVM_KIND_SOFTWARE;
	kind = processor(root);
	/* Only one vendor's module drives /dev/kvm. If there is a second one, it is built in; then
	 * it is unknown which of them drives the device. */
	if (kind != KVM_KIND_SOFTWARE && module_there(root, "kvm_pvm"))
		kind = module_there(root, "kvm_intel") || module_there(root, "kvm_amd")
			       ? KVM_KIND_UNKNOWN
			       : KVM_KIND_SOFTWARE;
	return kind;
}

int kvm_runs_linux(struct ramet_err *err)
{
	if (kvm_kind("") != KVM_KIND_SOFTWARE)
		return 0;
	return err_set(err, -ENOTSUP,
		"this KVM cannot run a Linux kernel: there is no VMX or SVM behind it, and its "
		"emulator lacks instructions that Linux starts with; use scripts/nested, see "
		"docs/linux.md (to try in spite of this, set RAMET_KVM_KIND=hardware)");
}
