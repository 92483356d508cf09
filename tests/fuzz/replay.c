/* SPDX-License-Identifier: Apache-2.0 */
/* Runs a fuzz target over the files of directories, where there is no libFuzzer to do it. */
#include <dirent.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* False when it is not a file that can be read. */
static bool replay(int dir, const char *name)
{
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
	struct stat st;
	uint8_t *data;
	bool ok = false;

	if (fd >= 0 && !fstat(fd, &st) && S_ISREG(st.st_mode)) {
		/* Of the exact size: a sanitizer sees a read beyond it. */
		data = malloc((size_t)st.st_size);
		ok = data && read(fd, data, (size_t)st.st_size) == st.st_size;
		if (ok)
			LLVMFuzzerTestOneInput(data, (size_t)st.st_size);
		free(data);
	}
	if (fd >= 0)
		close(fd);
	return ok;
}

int main(int argc, char **argv)
{
	unsigned n = 0;

	for (int i = 1; i < argc; i++) {
		DIR *dir = opendir(argv[i]);
		struct dirent *e;

		if (!dir) {
			perror(argv[i]);
			return 1;
		}
		while ((e = readdir(dir)))
			n += replay(dirfd(dir), e->d_name);
		closedir(dir);
	}
	printf("%u inputs\n", n);
	return n ? 0 : 1;
}
