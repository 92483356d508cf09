// SPDX-License-Identifier: Apache-2.0
/* The arena that all views lie in: its address space, and which view has which slot. */
#include "vmm/memory/view.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/base/priority.h"

/* At most half of a 47-bit address space, and no more views than a process can have descriptors
 * for. */
#define ARENA_BYTES	(1ull << 46)
#define ARENA_SLOTS	8192u
#define ARENA_SLOTS_MIN 8u
/* mremap(2) moves a whole PMD or PUD entry only between addresses that are equal modulo its size.
 */
#define VIEW_ALIGN (1ull << 30)

static int open_uffd(void)
{
	struct uffdio_api api = { .api = UFFD_API };
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		return -errno;
	if (ioctl(fd, UFFDIO_API, &api) < 0) {
		int e = -errno;

		close(fd);
		return e;
	}
	return fd;
}

/* Reserves address space for all slots, or for fewer slots if a sanitizer or a limit leaves less.
 */
static int reserve(struct view_arena *a)
{
	uint8_t *base = MAP_FAILED;
	size_t len = 0;

	for (a->slots *= 2; a->slots > ARENA_SLOTS_MIN && base == MAP_FAILED;) {
		a->slots /= 2;
		len = a->slots * a->stride;
		base = mmap(NULL, len + VIEW_ALIGN, PROT_NONE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	}
	if (base == MAP_FAILED)
		return -ENOMEM;
	a->base = (uint8_t *)(((uintptr_t)base + VIEW_ALIGN - 1) & ~(VIEW_ALIGN - 1));
	/* Unmap what alignment left over, so that base and length tell all that must be unmapped
	 * later. */
	if (a->base > base)
		munmap(base, (size_t)(a->base - base));
	munmap(a->base + len, VIEW_ALIGN - (size_t)(a->base - base));
	return 0;
}

/* Finds out whether one mremap(2) can move two mappings: two pages that differ in protection. */
static bool kernel_moves_pieces(void)
{
	uint8_t *p = mmap(NULL, 4 * PAGE_SIZE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	bool moves;

	if (p == MAP_FAILED)
		return false;
	moves = mprotect(p, PAGE_SIZE, PROT_NONE) == 0 &&
		mremap(p, 2 * PAGE_SIZE, 2 * PAGE_SIZE, VIEW_MOVE, p + 2 * PAGE_SIZE) != MAP_FAILED;
	munmap(p, 4 * PAGE_SIZE);
	return moves;
}

int view_arena_init(struct view_arena *arena, uint64_t len, int pool_fd)
{
	struct view_arena a = { .len = len, .pool_fd = pool_fd, .uffd = -1, .pagemap_fd = -1 };
	int r;

	/* At least a GiB more than the RAM, so that the kernel never merges mappings of two views.
	 */
	a.stride = (len + 2 * VIEW_ALIGN - 1) & ~(VIEW_ALIGN - 1);
	a.slots = ARENA_BYTES / a.stride < ARENA_SLOTS ? (unsigned)(ARENA_BYTES / a.stride)
						       : ARENA_SLOTS;
	a.moves_pieces = kernel_moves_pieces();
	a.uffd = open_uffd();
	if (a.uffd < 0)
		return a.uffd;
	a.pagemap_fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	r = a.pagemap_fd < 0 ? -errno : reserve(&a);
	if (!r) {
		a.used = calloc(a.slots, sizeof(struct view *));
		r = a.used ? 0 : -ENOMEM;
		if (r)
			munmap(a.base, a.slots * a.stride);
	}
	if (r) {
		close(a.uffd);
		if (a.pagemap_fd >= 0)
			close(a.pagemap_fd);
		return r;
	}
	*arena = a;
	lock_init(&arena->lock, LOCK_VIEW_ARENA);
	return 0;
}

void view_arena_end(struct view_arena *arena)
{
	struct uffdio_range all = { (uintptr_t)arena->base, arena->slots * arena->stride };

	if (mmap(arena->base, all.len, PROT_NONE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) == MAP_FAILED)
		return; /* the views will be unmapped one by one */
	ioctl(arena->uffd, UFFDIO_WAKE, &all);
	atomic_store(&arena->ended, true);
}

void view_arena_destroy(struct view_arena *arena)
{
	for (unsigned i = 0; i < arena->slots; i++)
		if (arena->used[i]) {
			lock_destroy(&arena->used[i]->lock);
			free(arena->used[i]);
		}
	munmap(arena->base, arena->slots * arena->stride);
	close(arena->uffd);
	close(arena->pagemap_fd);
	free(arena->used);
	lock_destroy(&arena->lock);
}

/* A struct view lives as long as the arena: the fault threads find it by address and hold no
 * reference to it. */
static struct view *slot_claim(struct view_arena *arena)
{
	struct view *v = NULL;

	lock_take(&arena->lock);
	for (unsigned i = 0; i < arena->slots && !v; i++) {
		if (!arena->used[i]) {
			v = calloc(1, sizeof(*v) + 2 * view_spans(arena));
			if (!v)
				break;
			v->arena = arena;
			v->slot = i;
			v->base = arena->base + i * arena->stride;
			v->span = (_Atomic uint8_t *)(v + 1);
			v->flags = (uint8_t *)(v + 1) + view_spans(arena);
			lock_init(&v->lock, LOCK_VIEW);
			arena->used[i] = v;
			v->in_use = v->closed = true;
		} else if (!arena->used[i]->in_use) {
			v = arena->used[i];
			v->in_use = true;
		}
	}
	lock_release(&arena->lock);
	if (v)
		atomic_fetch_add(&arena->n_used, 1);
	return v;
}

static void slot_release(struct view *view)
{
	lock_take(&view->arena->lock);
	view->in_use = false;
	lock_release(&view->arena->lock);
	atomic_fetch_sub(&view->arena->n_used, 1);
}

int view_new(struct view_arena *arena, struct view **out)
{
	struct view *v = slot_claim(arena);
	int r;

	if (!v)
		return -ENOMEM;
	r = view_blank(v);
	if (r) {
		slot_release(v);
		return r;
	}
	*out = v;
	return 0;
}

void view_free(struct view *view)
{
	if (!view)
		return;
	if (!atomic_load(&view->arena->ended))
		view_close(view);
	slot_release(view);
}

struct view *view_find(struct view_arena *arena, uint64_t addr, ram_off_t *off)
{
	uint64_t at = addr - (uintptr_t)arena->base;
	struct view *v;

	if (addr < (uintptr_t)arena->base || at / arena->stride >= arena->slots)
		return NULL;
	lock_take(&arena->lock);
	v = arena->used[at / arena->stride];
	lock_release(&arena->lock);
	*off = ram_off(at % arena->stride);
	return off->v < arena->len ? v : NULL;
}
