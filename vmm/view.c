// SPDX-License-Identifier: Apache-2.0
#include "vmm/view.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/hurry.h"

/* Half of a 47-bit address space, and no more views than a process can have descriptors for. */
#define ARENA_BYTES	(1ull << 46)
#define ARENA_SLOTS	8192u
#define ARENA_SLOTS_MIN 8u
/* mremap moves whole PMD or PUD entries only between addresses that are equal modulo their size. */
#define VIEW_ALIGN (1ull << 30)

/* PAGEMAP_SCAN, Linux 6.7: include/uapi/linux/fs.h, which is newer than the headers of our oldest
 * distribution. */
struct scan_region {
	uint64_t start, end, categories;
};
struct scan_arg {
	uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
	uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};
#define SCAN_IOCTL   _IOWR('f', 16, struct scan_arg)
#define SCAN_FILE    (1u << 2)
#define SCAN_PRESENT (1u << 3)
#define SCAN_SWAPPED (1u << 4)
#define SCAN_REGIONS 256

/* So many spans filled one after the other to be written to, and the next is written to all over.
 */
#define WRITTEN_ROW 2u

static uint64_t spans_of(const struct view_arena *arena)
{
	return arena->len >> SPAN_SHIFT;
}

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

/* Address space for all slots, or for as many as there is room for: a sanitizer or a limit leaves
 * less. */
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
	/* Trim what alignment left over, so that base and size are all we must remember. */
	if (a->base > base)
		munmap(base, (size_t)(a->base - base));
	munmap(a->base + len, VIEW_ALIGN - (size_t)(a->base - base));
	return 0;
}

/* A range that is moved stays mapped where it was, empty: in a hole the kernel could put what
 * somebody else maps, which the view would then overwrite. mremap(2): Linux 5.7, for files 5.13. */
#define MOVE_FLAGS (MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP)

/* Moves two pages of different protection, hence two mappings, to where a third one is. */
static bool kernel_moves_pieces(void)
{
	uint8_t *p = mmap(NULL, 4 * PAGE_SIZE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	bool moves;

	if (p == MAP_FAILED)
		return false;
	moves = mprotect(p, PAGE_SIZE, PROT_NONE) == 0 &&
		mremap(p, 2 * PAGE_SIZE, 2 * PAGE_SIZE, MOVE_FLAGS, p + 2 * PAGE_SIZE) !=
			MAP_FAILED;
	munmap(p, 4 * PAGE_SIZE);
	return moves;
}

int view_arena_init(struct view_arena *arena, uint64_t len, int pool_fd)
{
	struct view_arena a = { .len = len, .pool_fd = pool_fd, .uffd = -1, .pagemap_fd = -1 };
	int r;

	/* A GiB more than the RAM keeps neighbours' VMAs apart. */
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
	hurry_mutex_init(&arena->lock);
	return 0;
}

void view_arena_destroy(struct view_arena *arena)
{
	for (unsigned i = 0; i < arena->slots; i++)
		if (arena->used[i]) {
			pthread_mutex_destroy(&arena->used[i]->lock);
			free(arena->used[i]);
		}
	munmap(arena->base, arena->slots * arena->stride);
	close(arena->uffd);
	close(arena->pagemap_fd);
	free(arena->used);
	pthread_mutex_destroy(&arena->lock);
}

/* View structures live as long as the arena: the fault threads find them by address, with no
 * reference. */
static struct view *slot_claim(struct view_arena *arena)
{
	struct view *v = NULL;

	pthread_mutex_lock(&arena->lock);
	for (unsigned i = 0; i < arena->slots && !v; i++) {
		if (!arena->used[i]) {
			v = calloc(1, sizeof(*v) + 2 * spans_of(arena));
			if (!v)
				break;
			v->arena = arena;
			v->slot = i;
			v->base = arena->base + i * arena->stride;
			v->span = (uint8_t *)(v + 1);
			v->flags = v->span + spans_of(arena);
			hurry_mutex_init(&v->lock);
			arena->used[i] = v;
			v->in_use = true;
		} else if (!arena->used[i]->in_use) {
			v = arena->used[i];
			v->in_use = true;
		}
	}
	pthread_mutex_unlock(&arena->lock);
	return v;
}

static void slot_release(struct view *view)
{
	pthread_mutex_lock(&view->arena->lock);
	view->in_use = false;
	pthread_mutex_unlock(&view->arena->lock);
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
	view_close(view);
	slot_release(view);
}

int view_map(struct view *view, uint64_t off, uint64_t frame, uint64_t n_pages, bool shared)
{
	uint64_t len = n_pages * PAGE_SIZE;
	void *p = mmap(view->base + off, len, PROT_READ | PROT_WRITE,
		(shared ? MAP_SHARED : MAP_PRIVATE) | MAP_FIXED | MAP_NORESERVE,
		view->arena->pool_fd, (off_t)(frame * PAGE_SIZE));

	if (p == MAP_FAILED)
		return -errno;
	view->pieces++;
	atomic_fetch_add(&view->arena->pieces, 1);
	for (uint64_t at = off & ~(SPAN_SIZE - 1); at < off + len; at += SPAN_SIZE) {
		view->span[at >> SPAN_SHIFT] = VIEW_PRESENT;
		if (at < off || at + SPAN_SIZE > off + len)
			view->flags[at >> SPAN_SHIFT] |= VIEW_SPLIT;
		else
			view->flags[at >> SPAN_SHIFT] = 0;
	}
	return 0;
}

uint32_t view_placed(const struct view *view, uint64_t span)
{
	uint32_t blocks = 0;

	for (unsigned i = 0; i < view->n_placed; i++)
		if (view->placed[i].span == span)
			blocks |= 1u << view->placed[i].block;
	return blocks;
}

bool view_has_page(const struct view *view, uint64_t span, unsigned page)
{
	uint8_t state = __atomic_load_n(&view->span[span], __ATOMIC_ACQUIRE);

	return state == VIEW_PRESENT ||
	       (state == VIEW_PARTIAL && view_placed(view, span) >> (page / VIEW_BLOCK_PAGES) & 1);
}

void view_poison(struct view *view, uint64_t span)
{
	uint8_t *base = view->base + (span << SPAN_SHIFT);
	uint64_t bitmap[SPAN_PAGES / 64];
	unsigned n;

	view->span[span] = VIEW_POISONED;
	__atomic_store_n(&view->poisoned, true, __ATOMIC_RELEASE);
	if (view_private_pages(view, span, bitmap) < 0)
		return;
	for (unsigned i = 0; i < SPAN_PAGES; i += n ? n : 1) {
		for (n = 0; i + n < SPAN_PAGES && !(bitmap[(i + n) / 64] >> ((i + n) % 64) & 1);)
			n++;
		if (n)
			mmap(base + i * PAGE_SIZE, n * PAGE_SIZE, PROT_NONE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
	}
}

static int copy_in(struct view *view, uint64_t off, uint64_t len, const uint8_t *src)
{
	struct uffdio_copy copy = {
		.dst = (uintptr_t)view->base + off, .src = (uintptr_t)src, .len = len
	};

	/* EAGAIN: it has been interrupted by a change of the address space, having copied some. */
	while (ioctl(view->arena->uffd, UFFDIO_COPY, &copy) < 0) {
		if (errno != EAGAIN) {
			int e = -errno;

			/* What has been copied may have been written to: there is no way back. */
			if (copy.len < len)
				view_poison(view, off >> SPAN_SHIFT);
			return e;
		}
		if (copy.copy > 0) {
			copy.dst += (uint64_t)copy.copy;
			copy.src += (uint64_t)copy.copy;
			copy.len -= (uint64_t)copy.copy;
		}
		copy.copy = 0;
	}
	view->flags[off >> SPAN_SHIFT] |= VIEW_PLACED | VIEW_COPIES;
	return 0;
}

int view_place(struct view *view, uint64_t span, unsigned page, const uint8_t *src)
{
	unsigned block = page / VIEW_BLOCK_PAGES;
	uint64_t at = block * VIEW_BLOCK_PAGES * PAGE_SIZE;
	int r;

	if (view->n_placed == VIEW_BLOCKS_MAX || view_has_page(view, span, page))
		return -ENOSPC;
	r = copy_in(view, (span << SPAN_SHIFT) + at, VIEW_BLOCK_PAGES * PAGE_SIZE, src + at);
	if (r)
		return r;
	view->placed[view->n_placed].span = span;
	view->placed[view->n_placed++].block = block;
	view->span[span] = VIEW_PARTIAL;
	return 0;
}

int view_copy(struct view *view, uint64_t off, uint64_t len, const uint8_t *src)
{
	int r = copy_in(view, off, len, src);

	if (!r)
		view->span[off >> SPAN_SHIFT] = VIEW_PRESENT;
	return r;
}

bool view_writes_on(struct view *view, uint64_t span)
{
	view->written_row = span == view->written_next ? view->written_row + 1 : 0;
	view->written_next = span + 1;
	return view->written_row >= WRITTEN_ROW;
}

void view_copy_ahead(struct view *view, uint64_t span)
{
	/* It may have copied some even if it fails. */
	madvise(view->base + (span << SPAN_SHIFT), SPAN_SIZE, MADV_POPULATE_WRITE);
	view->flags[span] |= VIEW_COPIES;
}

static int remap_anonymous(struct view *view, int prot)
{
	void *p = mmap(view->base, view->arena->len, prot,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		return -errno;
	atomic_fetch_sub(&view->arena->pieces, view->pieces);
	view->pieces = 0;
	memset(view->span, VIEW_ABSENT, spans_of(view->arena));
	memset(view->flags, 0, spans_of(view->arena));
	view->poisoned = false;
	view->n_placed = 0;
	view->written_next = view->written_row = 0;
	return 0;
}

int view_close(struct view *view)
{
	int r;

	pthread_mutex_lock(&view->lock);
	view->source = NULL;
	r = remap_anonymous(view, PROT_NONE);
	pthread_mutex_unlock(&view->lock);
	/* Waiters of the mapping that is gone try again, and find a range that cannot be touched.
	 */
	view_wake(view, 0, view->arena->len);
	return r;
}

int view_blank(struct view *view)
{
	struct uffdio_register reg = {
		.range = { (uintptr_t)view->base, view->arena->len },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	int r;

	pthread_mutex_lock(&view->lock);
	/* Not to be touched before it is registered: a page that KVM still fetches for the shell's
	 * former VM would be a zero page here, and stand in for one of the next VM's. */
	r = remap_anonymous(view, PROT_NONE);
	/* A huge zero-filled page must never stand in for a span that we did not fill. */
	if (!r && madvise(view->base, view->arena->len, MADV_NOHUGEPAGE) < 0 && errno != EINVAL)
		r = -errno;
	if (!r && (ioctl(view->arena->uffd, UFFDIO_REGISTER, &reg) < 0 ||
			  mprotect(view->base, view->arena->len, PROT_READ | PROT_WRITE) < 0))
		r = -errno;
	pthread_mutex_unlock(&view->lock);
	return r;
}

void view_set_source(struct view *view, struct generation *source)
{
	bool again;

	pthread_mutex_lock(&view->lock);
	again = view->unserved && source;
	view->source = source;
	view->unserved &= !again;
	pthread_mutex_unlock(&view->lock);
	if (again)
		view_wake(view, 0, view->arena->len);
}

void view_wake(struct view *view, uint64_t off, uint64_t len)
{
	struct uffdio_range range = { (uintptr_t)view->base + off, len };

	ioctl(view->arena->uffd, UFFDIO_WAKE, &range);
}

/* The next regions of [*off, end) that hold pages: only private ones (anonymous copies), or all. */
static int scan(const struct view *view, uint64_t *off, uint64_t end, bool private_only,
	struct scan_region region[SCAN_REGIONS])
{
	struct scan_arg arg = {
		.size = sizeof(arg),
		.start = (uintptr_t)view->base + *off,
		.end = (uintptr_t)view->base + end,
		.vec = (uintptr_t)region,
		.vec_len = SCAN_REGIONS,
		.category_inverted = private_only ? SCAN_FILE : 0,
		.category_mask = private_only ? SCAN_FILE : 0,
		.category_anyof_mask = SCAN_PRESENT | SCAN_SWAPPED,
		.return_mask = SCAN_FILE,
	};
	int n = ioctl(view->arena->pagemap_fd, SCAN_IOCTL, &arg);

	if (n < 0)
		return -errno;
	*off = arg.walk_end - (uintptr_t)view->base;
	for (int i = 0; i < n; i++) {
		region[i].start -= (uintptr_t)view->base;
		region[i].end -= (uintptr_t)view->base;
	}
	return n;
}

int view_private_pages(const struct view *view, uint64_t span, uint64_t bitmap[SPAN_PAGES / 64])
{
	struct scan_region region[SCAN_REGIONS];
	uint64_t off = span << SPAN_SHIFT;
	int pages = 0;

	memset(bitmap, 0, SPAN_PAGES / 8);
	for (uint64_t at = off; at < off + SPAN_SIZE;) {
		int n = scan(view, &at, off + SPAN_SIZE, true, region);

		if (n < 0)
			return n;
		for (int i = 0; i < n; i++)
			for (uint64_t p = region[i].start; p < region[i].end;
				p += PAGE_SIZE, pages++)
				bitmap[(p - off) / PAGE_SIZE / 64] |=
					1ull << ((p - off) / PAGE_SIZE % 64);
	}
	return pages;
}

int view_private_spans(const struct view *view, uint8_t *has)
{
	struct scan_region region[SCAN_REGIONS];
	int pages = 0;

	memset(has, 0, spans_of(view->arena));
	for (uint64_t at = 0; at < view->arena->len;) {
		int n = scan(view, &at, view->arena->len, true, region);

		if (n < 0)
			return n;
		for (int i = 0; i < n; i++) {
			for (uint64_t s = region[i].start >> SPAN_SHIFT;
				s <= (region[i].end - 1) >> SPAN_SHIFT; s++)
				has[s] = 1;
			pages += (int)((region[i].end - region[i].start) / PAGE_SIZE);
		}
	}
	return pages;
}

bool view_can_take(const struct view *from, uint64_t span)
{
	return from->span[span] == VIEW_PRESENT && !(from->flags[span] & VIEW_PLACED) &&
	       (!(from->flags[span] & VIEW_SPLIT) || from->arena->moves_pieces);
}

int view_take(struct view *to, struct view *from, uint64_t span)
{
	uint64_t off = span << SPAN_SHIFT;

	if (mremap(from->base + off, SPAN_SIZE, SPAN_SIZE, MOVE_FLAGS, to->base + off) ==
		MAP_FAILED)
		return -errno;
	to->span[span] = VIEW_PRESENT;
	to->flags[span] = from->flags[span];
	to->pieces++;
	atomic_fetch_add(&to->arena->pieces, 1);
	from->span[span] = VIEW_ABSENT;
	return 0;
}

int view_count(struct view *view, struct view_count *count)
{
	struct scan_region region[SCAN_REGIONS];
	struct view_count c = { 0 };

	for (uint64_t s = 0; s < spans_of(view->arena); s++)
		c.absent_spans += view->span[s] == VIEW_ABSENT;
	for (uint64_t at = 0; at < view->arena->len;) {
		int n = scan(view, &at, view->arena->len, false, region);

		if (n < 0)
			return n;
		for (int i = 0; i < n; i++) {
			uint64_t pages = (region[i].end - region[i].start) / PAGE_SIZE;

			if (region[i].categories & SCAN_FILE)
				c.shared_pages += pages;
			else
				c.private_pages += pages;
		}
	}
	*count = c;
	return 0;
}

struct view *view_find(struct view_arena *arena, uint64_t addr, uint64_t *off)
{
	uint64_t at = addr - (uintptr_t)arena->base;
	struct view *v;

	if (addr < (uintptr_t)arena->base || at / arena->stride >= arena->slots)
		return NULL;
	pthread_mutex_lock(&arena->lock);
	v = arena->used[at / arena->stride];
	pthread_mutex_unlock(&arena->lock);
	*off = at % arena->stride;
	return *off < arena->len ? v : NULL;
}
