/* SPDX-License-Identifier: Apache-2.0 */
/* Limits of the process (setrlimit(2)) that may be why a call has failed. */
#ifndef RAMET_VMM_BASE_LIMITS_H
#define RAMET_VMM_BASE_LIMITS_H

/* Which limit of the process may be the cause of `error` (a negative errno value), and what the
 * user can do about it. A message ends with this text, which begins with "; ". "": no limit
 * explains the error. */
const char *limit_hint(int error);

#endif
