// SPDX-License-Identifier: Apache-2.0
#include "vmm/memory/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/io.h"
#include "vmm/base/priority.h"

/* Free blocks that keep their memory: 64 MiB. */
#define KEEP_BLOCKS 32u

/* 16 GiB of address space for tables: enough for 8 TiB of guests that share nothing. */
#define TABLES_MAX (1u << 22)

const struct mmu_attr memory_ram_attr = { .r = true, .w = true, .x = true, .memory_type = 6 };

/* ---- callbacks of mmu/ and of the pool ---- */

static struct mmu_table *alloc_table(void *ctx)
{
	struct memory *m = ctx;
	struct mmu_table *t;
	uint32_t i;

	if (m->n_free) {
		i = m->free_table[--m->n_free];
		memset((void *)m->table[i], 0, sizeof(m->table[i]));
	} else if (m->top < m->max_tables) {
		i = m->top++;
	} else {
		return NULL;
	}
	t = &m->descriptor[i];
	t->slot = m->table[i];
	t->phys = i * MMU_PAGE_SIZE;
	return t;
}

static void free_table(void *ctx, struct mmu_table *t)
{
	struct memory *m = ctx;

	m->free_table[m->n_free++] = (uint32_t)(t - m->descriptor);
}

static struct mmu_table *find_table(void *ctx, uint64_t phys)
{
	struct memory *m = ctx;

	return &m->descriptor[phys / MMU_PAGE_SIZE];
}

static void get_frames(void *ctx, uint64_t first, uint64_t n)
{
	struct memory *m = ctx;

	pool_get(&m->pool, first, n);
}

static void put_frames(void *ctx, uint64_t first, uint64_t n)
{
	struct memory *m = ctx;

	pool_put(&m->pool, first, n);
}

static const struct mmu_ops mmu_ops = {
	.alloc_table = alloc_table,
	.free_table = free_table,
	.table = find_table,
	.get_frames = get_frames,
	.put_frames = put_frames,
};

/* Whether an idle run keeps its memory. KEEP_BLOCKS free blocks stay allocated, so that the next
 * user does not wait for the kernel to zero them. The caller holds the lock. */
static bool keeps_memory(const struct memory *m, uint64_t n)
{
	if (atomic_load(&m->ending))
		return true;
	return n >= POOL_BLOCK_FRAMES && m->pool.n_free < KEEP_BLOCKS && !atomic_load(&m->sparing);
}

/* Gives an idle run's memory back to the host. */
static void punch(const struct memory *m, frame_t first, uint64_t n)
{
	fallocate(m->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)frame_pos(first),
		(off_t)(n * PAGE_SIZE));
}

static void frames_idle(void *ctx, uint64_t first, uint64_t n)
{
	struct memory *m = ctx;

	if (m->n_idle < MEMORY_IDLE_MAX) {
		m->idle[m->n_idle].first = (frame_t){ first };
		m->idle[m->n_idle++].n = n;
	} else {
		if (!keeps_memory(m, n))
			punch(m, (frame_t){ first }, n);
		pool_free(&m->pool, first, n);
	}
}

static const struct pool_ops pool_ops = { frames_idle };

static void lock(struct memory *m)
{
	lock_take(&m->lock);
}

static void unlock(struct memory *m)
{
	lock_release(&m->lock);
}

/* Frees idle runs and unlocks. To give a block's memory back to the host takes long (0.1 ms), so
 * this function drops the lock meanwhile. Only threads call it that no other thread waits for. */
static void unlock_and_trim(struct memory *m)
{
	while (m->n_idle) {
		frame_t first = m->idle[--m->n_idle].first;
		uint64_t n = m->idle[m->n_idle].n;

		if (!keeps_memory(m, n)) {
			lock_release(&m->lock);
			punch(m, first, n);
			hurry_rest();
			lock_take(&m->lock);
		}
		pool_free(&m->pool, first.v, n);
	}
	lock_release(&m->lock);
}

/* ---- set-up ---- */

static void *sparse(size_t len)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	/* To zero a huge page would take longer than all else that a fork does. */
	madvise(p, len, MADV_NOHUGEPAGE);
	return p;
}

/* Room for the guest and for all pages that its clones can dirty. This is more than the host has:
 * the unused part of a block takes up frame numbers but no memory. */
static uint64_t pool_blocks(const struct ram_layout *ram, uint64_t max_bytes)
{
	uint64_t host = (uint64_t)sysconf(_SC_PHYS_PAGES) * PAGE_SIZE;

	return (max_bytes ? max_bytes : ram->size + 16 * host) >> SPAN_SHIFT;
}

static size_t counts_size(const struct memory *m)
{
	return pool_memory(m->pool.blocks);
}

int memory_init(struct memory *m, const struct ram_layout *ram, uint64_t max_bytes)
{
	uint64_t blocks = pool_blocks(ram, max_bytes);
	void *counts = sparse(pool_memory(blocks));

	*m = (struct memory){
		.ram = ram, .fd = -1, .max_tables = TABLES_MAX, .granted = INT64_MAX
	};
	if (!counts)
		return -ENOMEM;
	pool_init(&m->pool, blocks, counts, &pool_ops, m);
	m->pool_counts = counts;
	m->table = sparse(TABLES_MAX * sizeof(*m->table));
	m->descriptor = sparse(TABLES_MAX * sizeof(*m->descriptor));
	m->free_table = sparse(TABLES_MAX * sizeof(*m->free_table));
	m->fd = memfd_create("ramet-frames", MFD_CLOEXEC);
	lock_init(&m->lock, LOCK_MEMORY);
	if (!m->table || !m->descriptor || !m->free_table || m->fd < 0 ||
		ftruncate(m->fd, (off_t)(blocks << SPAN_SHIFT)) < 0) {
		int e = errno;

		memory_destroy(m);
		return -e;
	}
	mmu_init(&m->mmu, &mmu_ept, &mmu_ops, m);
	return 0;
}

void memory_end(struct memory *m)
{
	atomic_store(&m->ending, true);
}

void memory_destroy(struct memory *m)
{
	if (m->pool_counts)
		munmap(m->pool_counts, counts_size(m));
	if (m->table)
		munmap((void *)m->table, TABLES_MAX * sizeof(*m->table));
	if (m->descriptor)
		munmap(m->descriptor, TABLES_MAX * sizeof(*m->descriptor));
	if (m->free_table)
		munmap(m->free_table, TABLES_MAX * sizeof(*m->free_table));
	if (m->fd >= 0)
		close(m->fd);
	lock_destroy(&m->lock);
}

/* ---- address spaces ---- */

/* Takes over the frames. On failure all of them are put: the root's by putting the root. */
static int map_ram(struct memory *m, struct mmu_root *root, frame_t frame)
{
	uint64_t left = m->ram->size / PAGE_SIZE;
	int r = mmu_root_init(&m->mmu, root);

	if (r) {
		pool_put(&m->pool, frame.v, left);
		return r;
	}
	for (unsigned i = 0; i < m->ram->n; i++) {
		uint64_t n = m->ram->r[i].len / PAGE_SIZE;

		r = mmu_map(&m->mmu, root, m->ram->r[i].gpa, n, frame.v, memory_ram_attr);
		if (r) {
			pool_put(&m->pool, frame.v, left);
			mmu_root_put(&m->mmu, root);
			return r;
		}
		frame = frame_add(frame, n);
		left -= n;
	}
	return 0;
}

int memory_new_root(struct memory *m, struct mmu_root **out, frame_t *frame)
{
	struct mmu_root *root = malloc(sizeof(*root));
	int r;

	if (!root)
		return -ENOMEM;
	lock(m);
	r = pool_alloc_zero(&m->pool, m->ram->size / PAGE_SIZE, &frame->v);
	if (!r)
		r = map_ram(m, root, *frame);
	unlock(m);
	if (r)
		free(root);
	else
		*out = root;
	return r;
}

int memory_fork_root(struct memory *m, struct mmu_root *src, struct mmu_root **out)
{
	struct mmu_root *root = malloc(sizeof(*root));
	int r;

	if (!root)
		return -ENOMEM;
	lock(m);
	r = mmu_fork(&m->mmu, src, MMU_SHARE_PDPT, root);
	unlock(m);
	if (r)
		free(root);
	else
		*out = root;
	return r;
}

void memory_put_root(struct memory *m, struct mmu_root *root)
{
	lock(m);
	mmu_root_put(&m->mmu, root);
	unlock_and_trim(m);
	free(root);
}

void memory_spare(struct memory *m, bool on)
{
	if (atomic_exchange(&m->sparing, on) || !on)
		return;
	lock(m);
	/* The blocks that keep their memory are at the bottom of the stack: see keeps_memory(). */
	for (uint64_t i = 0; i < m->pool.n_free && i < KEEP_BLOCKS; i++)
		punch(m, (frame_t){ m->pool.free[i] * (uint64_t)POOL_BLOCK_FRAMES },
			POOL_BLOCK_FRAMES);
	unlock(m);
}

void memory_grant(struct memory *m, uint64_t bytes)
{
	atomic_store(&m->granted, bytes < INT64_MAX ? (int64_t)bytes : INT64_MAX);
}

bool memory_charge(struct memory *m, uint64_t bytes)
{
	if (atomic_fetch_sub(&m->granted, (int64_t)bytes) >= (int64_t)bytes)
		return true;
	atomic_fetch_add(&m->granted, (int64_t)bytes);
	return false;
}

void memory_refund(struct memory *m, uint64_t bytes)
{
	int64_t now = atomic_load(&m->granted);

	/* Not if there is no limit, or a new one that does not include the charge. */
	if (now < INT64_MAX - (int64_t)bytes)
		atomic_fetch_add(&m->granted, (int64_t)bytes);
}

void memory_trim(struct memory *m)
{
	lock(m);
	unlock_and_trim(m);
}

/* ---- looking ---- */

int memory_read_frames(struct memory *m, frame_t frame, uint64_t n_pages, void *buf)
{
	return io_pread(m->fd, frame_pos(frame), buf, n_pages * PAGE_SIZE);
}

void memory_root_stat(struct memory *m, struct mmu_root *root, uint64_t *bytes, uint64_t *shared)
{
	struct mmu_root_stat st;

	lock(m);
	mmu_root_stat(&m->mmu, root, &st);
	unlock(m);
	*bytes = st.own * MMU_PAGE_SIZE;
	*shared = st.shared;
}

void memory_stat(struct memory *m, struct ramet_family_stat *st)
{
	struct stat file;

	st->pool_resident_bytes = fstat(m->fd, &file) ? 0 : (uint64_t)file.st_blocks * 512;
	lock(m);
	st->tables = mmu_tables(&m->mmu);
	st->pool_bytes = m->pool.in_use * PAGE_SIZE;
	unlock(m);
	st->table_bytes = st->tables * MMU_PAGE_SIZE;
}

/* ---- the checker ---- */

static void report(void *arg, const char *what, uint64_t phys, uint64_t is, uint64_t should_be)
{
	err_set(arg, 0, "%s at %#llx: %llu, should be %llu", what, (unsigned long long)phys,
		(unsigned long long)is, (unsigned long long)should_be);
}

/* seen[] has a count for each of `frames` frames. The caller holds the lock. */
static int check_counts(struct memory *m, struct mmu_root **root, unsigned n, uint32_t *seen,
	uint64_t frames, struct ramet_err *err)
{
	uint64_t in_use = 0;

	if (m->pool.top * POOL_BLOCK_FRAMES != frames)
		return err_set(err, -EBUSY, "frames were allocated while they were counted");
	if (mmu_check(&m->mmu, root, n, seen, frames, report, err))
		return -EUCLEAN;
	for (uint64_t f = 0; f < frames; f++) {
		in_use += seen[f] != 0;
		if (seen[f] != pool_refs(&m->pool, f))
			return err_set(err, -EUCLEAN, "frame %llu has %u references but counts %u",
				(unsigned long long)f, seen[f], pool_refs(&m->pool, f));
	}
	return in_use == m->pool.in_use
		       ? 0
		       : err_set(err, -EUCLEAN, "%llu frames are in use but %llu counted",
				 (unsigned long long)in_use, (unsigned long long)m->pool.in_use);
}

int memory_check(struct memory *m, struct mmu_root **root, unsigned n, struct ramet_err *err)
{
	uint64_t frames;
	uint32_t *seen;
	int r;

	lock(m);
	frames = m->pool.top * POOL_BLOCK_FRAMES;
	unlock(m);
	seen = sparse((frames + 1) * sizeof(*seen));
	if (!seen)
		return err_set(err, -ENOMEM, "out of memory");
	lock(m);
	r = check_counts(m, root, n, seen, frames, err);
	unlock(m);
	munmap(seen, (frames + 1) * sizeof(*seen));
	return r;
}
