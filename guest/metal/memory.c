// SPDX-License-Identifier: Apache-2.0
#include "guest/metal/memory.h"

#include "guest/metal/cpu.h"
#include "guest/metal/hv.h"
#include "guest/metal/lib.h"

#define MIB	 (1ul << 20)
#define BLOCK	 (POOL_BLOCK_FRAMES * MMU_PAGE_SIZE)
#define CMOS	 0x70
#define ABOVE_4G (4ull << 30)
#define CPUS	 2u

extern char image_end[];

struct mmu mmu;
struct pool pool;
uint64_t pages_copied;

/* The arena: pages, and for each page a struct mmu_table in case it is used as a table. */
static struct {
	uint64_t start, n, fresh; /* pages from `fresh` on were never used */
	void *free;		  /* a list, linked through the first word of each page */
	uint64_t n_free;
	struct mmu_table *table;
} arena;
static uint64_t pool_start;
static uint32_t *seen; /* for mmu_check(), one for each frame of the machine */

/* Locks. ours: the data of the functions below. calls: calls of mmu/, see memory_lock(). */
static _Atomic bool ours, calls;
static bool concurrent;

static void lock(_Atomic bool *l)
{
	while (atomic_exchange(l, true))
		__builtin_ia32_pause();
}

static void unlock(_Atomic bool *l)
{
	atomic_store(l, false);
}

static uint64_t cmos(uint8_t reg)
{
	outb(CMOS, reg);
	return inb(CMOS + 1);
}

/* PC firmware puts the sizes of RAM above 16 MiB and above 4 GiB into the CMOS, in units of 64 KiB.
 */
static uint64_t ram_end_low(void)
{
	return 16 * MIB + ((cmos(0x35) << 8 | cmos(0x34)) << 16);
}

static uint64_t ram_above_4g(void)
{
	return (cmos(0x5d) << 16 | cmos(0x5c) << 8 | cmos(0x5b)) << 16;
}

/* Maps the memory above 4 GiB; boot.S has mapped the rest. */
static void map_above_4g(void)
{
	extern uint64_t pdpt[MMU_SLOTS];

	if (!(cpuid(0x80000001).d & 1 << 26))
		fatal("more than 4 GiB of memory, and no pages of 1 GiB to map it with");
	for (uint64_t i = 4; i < MMU_SLOTS; i++)
		pdpt[i] = i << 30 | 0x83;
}

void *page_new(void)
{
	void *page;

	lock(&ours);
	page = arena.free;
	if (page) {
		arena.free = *(void **)page;
		arena.n_free--;
	} else if (arena.fresh < arena.n) {
		page = (void *)(arena.start + arena.fresh++ * MMU_PAGE_SIZE);
	}
	unlock(&ours);
	return page ? memset(page, 0, MMU_PAGE_SIZE) : NULL;
}

void page_put(void *page)
{
	lock(&ours);
	*(void **)page = arena.free;
	arena.free = page;
	arena.n_free++;
	unlock(&ours);
}

uint64_t pages_free(void)
{
	return arena.n - arena.fresh + arena.n_free;
}

static struct mmu_table *table(void *ctx, uint64_t phys)
{
	return &arena.table[(phys - arena.start) / MMU_PAGE_SIZE];
}

static struct mmu_table *alloc_table(void *ctx)
{
	void *page = page_new();
	struct mmu_table *t;

	if (!page)
		return NULL;
	t = table(ctx, (uint64_t)page);
	*t = (struct mmu_table){ .slot = page, .phys = (uint64_t)page };
	return t;
}

static void free_table(void *ctx, struct mmu_table *t)
{
	page_put((void *)t->phys);
}

uint64_t frame_first(void)
{
	return pool_start / MMU_PAGE_SIZE;
}

static void get_frames(void *ctx, uint64_t first, uint64_t n)
{
	lock(&ours);
	pool_get(&pool, first - frame_first(), n);
	unlock(&ours);
}

static void put_frames(void *ctx, uint64_t first, uint64_t n)
{
	lock(&ours);
	pool_put(&pool, first - frame_first(), n);
	unlock(&ours);
}

int frames_new(uint64_t n, uint64_t *first)
{
	int r;

	lock(&ours);
	r = pool_alloc(&pool, n, first);
	unlock(&ours);
	if (!r)
		*first += frame_first();
	return r;
}

static bool frames_shared(void *ctx, uint64_t first, uint64_t n)
{
	for (uint64_t f = first; f < first + n; f++)
		if (pool_refs(&pool, f - frame_first()) > 1)
			return true;
	return false;
}

static int copy_frame(void *ctx, uint64_t frame, uint64_t *copy)
{
	if (frames_new(1, copy))
		return MMU_NO_MEMORY;
	memcpy(frame_pointer(*copy), frame_pointer(frame), MMU_PAGE_SIZE);
	pages_copied++;
	return 0;
}

static unsigned cpu(void *ctx)
{
	return cpu_number();
}

static void idle(void *ctx, uint64_t first, uint64_t n)
{
	pool_free(&pool, first, n);
}

void memory_init(memory_flush_fn *flush)
{
	static const struct pool_ops pool_ops = { idle };
	static struct mmu_ops ops = {
		.alloc_table = alloc_table,
		.free_table = free_table,
		.table = table,
		.get_frames = get_frames,
		.put_frames = put_frames,
		.frames_shared = frames_shared,
		.copy_frame = copy_frame,
		.cpu = cpu,
	};
	uint64_t low = ((uint64_t)image_end + BLOCK - 1) / BLOCK * BLOCK, end = ram_end_low();
	uint64_t size = ram_above_4g(), counts;

	if (size)
		map_above_4g();
	/* A 32nd of the memory is for tables. Guests get the memory above 4 GiB if there is any,
	 * otherwise the rest. */
	arena.table = (struct mmu_table *)low;
	arena.n = (end + size) / 32 / MMU_PAGE_SIZE;
	low += (arena.n * sizeof(struct mmu_table) + MMU_PAGE_SIZE - 1) / MMU_PAGE_SIZE *
	       MMU_PAGE_SIZE;
	arena.start = low;
	low += arena.n * MMU_PAGE_SIZE;
	counts = low;
	low += pool_memory((size ? size : end) / BLOCK);
	seen = (uint32_t *)low;
	low += (size ? ABOVE_4G + size : end) / MMU_PAGE_SIZE * sizeof *seen;
	pool_start = size ? ABOVE_4G : (low + BLOCK - 1) / BLOCK * BLOCK;
	if (low + 16 * MIB > end)
		fatal("%lu MiB of memory are too few", end / MIB);
	memset((void *)counts, 0, low - counts);
	pool_init(&pool, (size ? size : end - pool_start) / BLOCK, (void *)counts, &pool_ops, NULL);
	ops.flush = flush;
	mmu_init(&mmu, hv->format, &ops, NULL);
}

void memory_lock(void)
{
	if (!concurrent)
		lock(&calls);
}

void memory_unlock(void)
{
	if (!concurrent)
		unlock(&calls);
}

void memory_concurrent(void)
{
	static struct mmu_cpu cpus[CPUS];

	mmu_concurrent(&mmu, cpus, CPUS);
	concurrent = true;
}

static void report(void *arg, const char *what, uint64_t phys, uint64_t is, uint64_t should_be)
{
	print("%s at %lx: %lu, should be %lu\n", what, phys, is, should_be);
}

unsigned memory_check(struct mmu_root *const *root, unsigned n)
{
	uint64_t first = frame_first(), end = first + pool.blocks * POOL_BLOCK_FRAMES;
	struct mmu_caps caps;
	unsigned wrong;

	memset(seen, 0, end * sizeof *seen);
	wrong = mmu_check(&mmu, root, n, seen, end, report, NULL);
	hv->caps(&caps);
	for (unsigned i = 0; i < n; i++)
		wrong += mmu_check_format(&mmu, root[i], &caps, report, NULL);
	for (uint64_t f = first; f < end; f++)
		if (seen[f] != pool_refs(&pool, f - first)) {
			report(NULL, "references to a frame", f, pool_refs(&pool, f - first),
				seen[f]);
			wrong++;
		}
	return wrong;
}
