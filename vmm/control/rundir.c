/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/control/rundir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "vmm/base/clock.h"
#include "vmm/base/err.h"

#define SUFFIX	 ".sock"
#define LOCK_MS	 5000 /* how long to wait for the lock; it is usually held for microseconds */
#define RETRIES	 100  /* attempts to connect while a family's queue is full */
#define RETRY_MS 50

bool family_name_ok(const char *name)
{
	size_t len =
		strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_");

	return len && len <= FAMILY_NAME_MAX && !name[len] && name[0] != '-';
}

bool family_of(const char *vm_name, char *family)
{
	size_t len = strcspn(vm_name, ".");

	if (len > FAMILY_NAME_MAX || strlen(vm_name) >= RAMET_NAME_MAX)
		return false;
	memcpy(family, vm_name, len);
	family[len] = '\0';
	return family_name_ok(family);
}

static int rundir_path(char path[PATH_MAX], struct ramet_err *err)
{
	const char *own = getenv("RAMET_RUNTIME_DIR"), *xdg = getenv("XDG_RUNTIME_DIR");
	int n;

	if (own && *own)
		n = snprintf(path, PATH_MAX, "%s", own);
	else if (geteuid() == 0)
		n = snprintf(path, PATH_MAX, "/run/ramet");
	else if (xdg && *xdg)
		n = snprintf(path, PATH_MAX, "%s/ramet", xdg);
	else
		return err_set(err, -ENOENT,
			"there is no directory for control sockets: XDG_RUNTIME_DIR is not set; a "
			"login session sets it; or set RAMET_RUNTIME_DIR");
	if (n >= PATH_MAX)
		return err_set(err, -ENAMETOOLONG, "the runtime directory's path is too long");
	return 0;
}

int rundir_open(struct ramet_err *err)
{
	char path[PATH_MAX];
	struct stat st;
	int fd, ret = rundir_path(path, err);

	if (ret)
		return ret;
	if (mkdir(path, 0700) && errno != EEXIST)
		return err_set(err, -errno, "cannot make the runtime directory %s: %s", path,
			strerror(errno));
	fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return err_set(err, -errno, "cannot open the runtime directory %s: %s", path,
			strerror(errno));
	if (fstat(fd, &st) || st.st_uid != geteuid() || (st.st_mode & 077)) {
		close(fd);
		return err_set(err, -EPERM,
			"the runtime directory %s is not yours alone (owner %u, mode %04o); remove "
			"it "
			"or chmod it to 0700",
			path, (unsigned)st.st_uid, (unsigned)st.st_mode & 07777);
	}
	return fd;
}

/* ---- the lock ---- */

/* The process that holds the lock, from /proc/locks. 0: unknown, as for a process of another PID
 * namespace. */
static int lock_holder(int dir)
{
	FILE *f = fopen("/proc/locks", "re");
	char line[128];
	int holder = 0;
	struct stat st;

	if (f && !fstat(dir, &st))
		while (!holder && fgets(line, sizeof(line), f)) {
			unsigned long inode;
			int pid;

			/* "1: FLOCK  ADVISORY  WRITE 1234 fe:00:5678 0 EOF" */
			if (sscanf(line, "%*d: FLOCK %*s %*s %d %*x:%*x:%lu ", &pid, &inode) == 2 &&
				inode == st.st_ino && pid > 0)
				holder = pid;
		}
	if (f)
		fclose(f);
	return holder;
}

static const char *path_of(int dir, char path[PATH_MAX])
{
	char link[32];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", dir);
	n = readlink(link, path, PATH_MAX - 1);
	snprintf(path + (n > 0 ? n : 0), (size_t)(PATH_MAX - (n > 0 ? n : 0)), "%s",
		n > 0 ? "" : "the runtime directory");
	return path;
}

static int lock(int dir, struct ramet_err *err)
{
	uint64_t until = now_ns() + LOCK_MS * 1000000ull;
	char path[PATH_MAX], who[32] = "another process";
	int holder;

	while (flock(dir, LOCK_EX | LOCK_NB)) {
		if (errno != EWOULDBLOCK && errno != EINTR)
			return err_set(err, -errno, "cannot lock the runtime directory: %s",
				strerror(errno));
		if (now_ns() < until) {
			poll(NULL, 0, 10);
			continue;
		}
		holder = lock_holder(dir);
		if (holder)
			snprintf(who, sizeof(who), "process %d", holder);
		return err_set(err, -ETIMEDOUT,
			"%s has held the lock of %.120s for more than %u s; is it stopped? "
			"'lslocks' "
			"shows such processes; continue it, or end it",
			who, path_of(dir, path), LOCK_MS / 1000);
	}
	return 0;
}

static void unlock(int dir)
{
	flock(dir, LOCK_UN);
}

/* ---- sockets ---- */

/* Names the socket through the directory's descriptor: this path fits into sun_path even if the
 * directory's own path is too long. */
static socklen_t socket_address(int dir, const char *family, struct sockaddr_un *sa)
{
	*sa = (struct sockaddr_un){ .sun_family = AF_UNIX };
	snprintf(sa->sun_path, sizeof(sa->sun_path), "/proc/self/fd/%d/%s" SUFFIX, dir, family);
	return sizeof(*sa);
}

bool peer_ok(int sock)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	return !getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &peer, &len) &&
	       (peer.uid == geteuid() || peer.uid == 0);
}

int peer_pid(int sock)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	return getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &peer, &len) ? 0 : peer.pid;
}

/* Connects without blocking: if the family's queue is full, returns -EAGAIN. */
static int try_connect(int dir, const char *family)
{
	struct sockaddr_un sa;
	socklen_t len = socket_address(dir, family, &sa);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int ret;

	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&sa, len)) {
		ret = -errno;
	} else if (!peer_ok(fd)) {
		ret = -EPERM;
	} else {
		fcntl(fd, F_SETFL, 0);
		return fd;
	}
	close(fd);
	return ret;
}

static const char *socket_file(const char *family, char file[FAMILY_NAME_MAX + sizeof(SUFFIX)])
{
	snprintf(file, FAMILY_NAME_MAX + sizeof(SUFFIX), "%s" SUFFIX, family);
	return file;
}

/* 0: the name is a socket. -ENOTSOCK: the name belongs to another kind of file, which ramet did not
 * make. */
static int look_at_socket(int dir, const char *family)
{
	char file[FAMILY_NAME_MAX + sizeof(SUFFIX)];
	struct stat st;

	if (fstatat(dir, socket_file(family, file), &st, AT_SYMLINK_NOFOLLOW))
		return -errno;
	return S_ISSOCK(st.st_mode) ? 0 : -ENOTSOCK;
}

static int not_a_socket(int dir, const char *family, struct ramet_err *err)
{
	char path[PATH_MAX];

	return err_set(err, -ENOTSOCK,
		"%.120s/%s" SUFFIX
		" is in the way: it is no socket, so ramet did not make it; look "
		"at the file and remove it, or choose another name",
		path_of(dir, path), family);
}

/* Connects, or removes a socket on which no process listens (-EOWNERDEAD). The caller holds the
 * lock, so that no process is between bind() and listen(). */
static int connect_or_clean(int dir, const char *family)
{
	char file[FAMILY_NAME_MAX + sizeof(SUFFIX)];
	int fd = look_at_socket(dir, family);

	if (!fd)
		fd = try_connect(dir, family);
	if (fd == -ECONNREFUSED) {
		if (unlinkat(dir, socket_file(family, file), 0))
			return -errno;
		return -EOWNERDEAD;
	}
	return fd;
}

static int listen_on(int dir, const char *family)
{
	struct sockaddr_un sa;
	socklen_t len = socket_address(dir, family, &sa);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int ret;

	if (fd < 0)
		return -errno;
	if (!bind(fd, (struct sockaddr *)&sa, len) && !listen(fd, SOMAXCONN))
		return fd;
	ret = -errno;
	close(fd);
	return ret;
}

int rundir_claim(int dir, const char *family, struct ramet_err *err)
{
	int fd = lock(dir, err);

	if (fd)
		return fd;
	fd = connect_or_clean(dir, family);
	if (fd >= 0) {
		close(fd);
		fd = -EADDRINUSE;
	} else if (fd == -EOWNERDEAD || fd == -ENOENT) {
		fd = listen_on(dir, family);
	}
	unlock(dir);
	if (fd == -EADDRINUSE || fd == -EAGAIN)
		return err_set(err, -EADDRINUSE,
			"the name '%s' is taken by a running family; choose another with --name or "
			"'ramet stop --all %s'",
			family, family);
	if (fd == -ENOTSOCK)
		return not_a_socket(dir, family, err);
	if (fd < 0)
		return err_set(err, fd, "cannot make the control socket of '%s': %s", family,
			strerror(-fd));
	return fd;
}

void rundir_release(int dir, const char *family)
{
	char file[FAMILY_NAME_MAX + sizeof(SUFFIX)];

	/* Without the lock the socket stays: the next command that finds it removes it. */
	if (lock(dir, NULL))
		return;
	unlinkat(dir, socket_file(family, file), 0);
	unlock(dir);
}

int rundir_connect(int dir, const char *family, struct ramet_err *err)
{
	int fd, tries = 0;

	do {
		if (tries)
			poll(NULL, 0, RETRY_MS);
		fd = lock(dir, err);
		if (fd)
			return fd;
		fd = connect_or_clean(dir, family);
		unlock(dir);
	} while (fd == -EAGAIN && ++tries < RETRIES);
	if (fd == -EOWNERDEAD)
		return err_set(err, -ENOENT,
			"the family '%s' is gone: its process has crashed or was killed; its "
			"socket has been removed",
			family);
	if (fd == -ENOENT)
		return err_set(
			err, fd, "there is no family '%s'; 'ramet list' shows what runs", family);
	if (fd == -ENOTSOCK)
		return not_a_socket(dir, family, err);
	if (fd == -EAGAIN)
		return err_set(err, fd,
			"the family '%s' does not take connections: its queue has been full for %u "
			"s",
			family, RETRIES * RETRY_MS / 1000);
	if (fd < 0)
		return err_set(err, fd, "cannot reach the family '%s': %s", family, strerror(-fd));
	return fd;
}

static int is_socket(const struct dirent *d)
{
	size_t len = strlen(d->d_name);

	return len > strlen(SUFFIX) && !strcmp(d->d_name + len - strlen(SUFFIX), SUFFIX);
}

int rundir_each(int dir, int (*fn)(void *arg, const char *family), void *arg)
{
	struct dirent **entries;
	int ret = 0, n = scandirat(dir, ".", &entries, is_socket, alphasort);

	if (n < 0)
		return -errno;
	for (int i = 0; i < n; i++) {
		entries[i]->d_name[strlen(entries[i]->d_name) - strlen(SUFFIX)] = '\0';
		if (!ret && family_name_ok(entries[i]->d_name))
			ret = fn(arg, entries[i]->d_name);
		free(entries[i]);
	}
	free(entries);
	return ret;
}
