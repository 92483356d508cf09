/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/base/clock.h"
#include "vmm/bench/bench.h"

/* The helper's memory: one area for each kind of page. */
struct areas {
	size_t len;
	char *small, *huge;
};

static char *area(size_t len, int advice)
{
	size_t align = 2u << 20;
	char *p =
		mmap(NULL, len + align, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	p += -(uintptr_t)p & (align - 1);
	/* An error is ignored: a kernel without huge pages needs no advice. */
	madvise(p, len, advice);
	for (size_t i = 0; i < len; i += 4096)
		p[i] = 1;
	return p;
}

/* fork() copies all mappings, so hide all areas except the one to be measured. */
static uint64_t time_fork(const struct areas *a, char *which)
{
	uint64_t start, end;
	pid_t pid;

	madvise(a->small, a->len, which == a->small ? MADV_DOFORK : MADV_DONTFORK);
	madvise(a->huge, a->len, which == a->huge ? MADV_DOFORK : MADV_DONTFORK);
	start = now_ns();
	pid = fork();
	if (pid == 0)
		_exit(0);
	end = now_ns();
	if (pid < 0)
		return 0;
	waitpid(pid, NULL, 0);
	/* fork() has made the pages read-only. Make them writable again; this is not timed. */
	for (size_t i = 0; i < a->len; i += 4096)
		((volatile char *)which)[i] = 1;
	return end - start;
}

static uint64_t time_copy(const struct areas *a)
{
	uint64_t start = now_ns();

	memcpy(a->huge, a->small, a->len);
	return now_ns() - start;
}

static void serve(int fd, uint64_t bytes)
{
	struct areas a = { .len = bytes };
	uint64_t ns = 1;
	char kind;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	a.small = area(a.len, MADV_NOHUGEPAGE);
	a.huge = area(a.len, MADV_HUGEPAGE);
	if (!a.small || !a.huge)
		_exit(1);
	while (write(fd, &ns, sizeof(ns)) == sizeof(ns) && read(fd, &kind, 1) == 1)
		ns = kind == BASELINE_COPY
			     ? time_copy(&a)
			     : time_fork(&a, kind == BASELINE_FORK4K ? a.small : a.huge);
	_exit(0);
}

static int receive(struct baseline *b, uint64_t *ns)
{
	return recv(b->fd, ns, sizeof(*ns), MSG_WAITALL) == sizeof(*ns) && *ns ? 0 : -EIO;
}

int baseline_start(struct baseline *b, uint64_t bytes)
{
	int sv[2];
	uint64_t ready;

	*b = (struct baseline){ .fd = -1 };
	/* A process that the kernel kills for lack of memory gives no result. The two areas need
	 * `bytes` each, and the guest needs up to three times `bytes` for a moment. */
	if (bytes > memory_available() / 5)
		return -ENOMEM;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv))
		return -errno;
	b->pid = fork();
	if (b->pid == 0) {
		close(sv[0]);
		serve(sv[1], bytes);
	}
	close(sv[1]);
	b->fd = sv[0];
	if (b->pid > 0 && !receive(b, &ready))
		return 0;
	baseline_stop(b);
	return -ENOMEM;
}

int baseline_measure(struct baseline *b, enum baseline_kind kind, uint64_t *ns)
{
	char k = (char)kind;

	if (b->fd < 0 || send(b->fd, &k, 1, MSG_NOSIGNAL) != 1)
		return -EIO;
	return receive(b, ns);
}

void baseline_stop(struct baseline *b)
{
	if (b->fd >= 0)
		close(b->fd);
	if (b->pid > 0)
		waitpid(b->pid, NULL, 0);
	*b = (struct baseline){ .fd = -1 };
}
