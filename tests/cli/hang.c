/* SPDX-License-Identifier: Apache-2.0 */
/* For LD_PRELOAD: opening a file whose name ends in ".hangs" takes for ever, as on a server that
 * does not answer. This open() is open64(), by _FILE_OFFSET_BITS, as in the program. */
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

int open(const char *path, int flags, ...)
{
	size_t len = strlen(path);
	mode_t mode = 0;
	va_list ap;

	while (len > 6 && !strcmp(path + len - 6, ".hangs"))
		pause();
	va_start(ap, flags);
	if (flags & (O_CREAT | O_TMPFILE))
		mode = va_arg(ap, mode_t);
	va_end(ap);
	return openat(AT_FDCWD, path, flags, mode);
}
