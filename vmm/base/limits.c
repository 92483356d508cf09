// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <stdbool.h>
#include <sys/resource.h>

#include "vmm/base/limits.h"

static bool limited(__rlimit_resource_t which)
{
	struct rlimit l;

	return !getrlimit(which, &l) && l.rlim_cur != RLIM_INFINITY;
}

const char *limit_hint(int error)
{
	switch (error) {
	case -ENOMEM:
		return limited(RLIMIT_AS)
			       ? "; the address space of this process is limited (ulimit -v): a "
				 "family reserves some TiB of it"
			       : "";
	case -EFBIG:
		return limited(RLIMIT_FSIZE)
			       ? "; the size of files is limited (ulimit -f): guest memory is "
				 "in one"
			       : "";
	case -EMFILE:
	case -ENFILE:
		return "; raise the limit of open files (ulimit -n): a VM takes one and one per "
		       "vCPU";
	case -EAGAIN:
		return "; the limit of threads is reached (ulimit -u)";
	default:
		return "";
	}
}
