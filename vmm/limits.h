/* SPDX-License-Identifier: Apache-2.0 */
/* The limits that the kernel sets a process: which of them may be why a call has failed. */
#ifndef RAMET_VMM_LIMITS_H
#define RAMET_VMM_LIMITS_H

/* What to do about it, to be put behind the text of that error: "; raise the limit of ...". "" if
 * no limit explains it. `error` is a negative errno value. */
const char *limit_hint(int error);

#endif
