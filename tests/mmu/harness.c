/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/mmu/harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mmu/entry.h"

void h_die(const char *file, int line, const char *what)
{
	fprintf(stderr, "%s:%d: %s\n", file, line, what);
	abort();
}

/* ---- functions that the library calls ---- */

static bool allowed_to_fail(struct harness *h)
{
	if (h->fail_after < 0)
		return false;
	return h->fail_after-- == 0;
}

static struct mmu_table *alloc_table(void *ctx)
{
	struct harness *h = ctx;
	struct mmu_table *t;
	uint32_t i;

	if (allowed_to_fail(h))
		return NULL;
	h_require(h->n_free_tables || h->n_tables < H_TABLES);
	i = h->n_free_tables ? h->free_table[--h->n_free_tables] : h->n_tables++;
	memset((void *)h->slots[i], 0, sizeof(h->slots[i]));
	t = &h->table[i];
	t->slot = h->slots[i];
	t->phys = (i + 1) * MMU_PAGE_SIZE;
	t->id = i;
	h->table_live[i] = true;
	return t;
}

static void free_table(void *ctx, struct mmu_table *t)
{
	struct harness *h = ctx;
	uint32_t i = (uint32_t)(t - h->table);

	h_require(h->table_live[i]);
	h->table_live[i] = false;
	h->free_table[h->n_free_tables++] = i;
	/* A walker that still reads the table finds garbage. */
	memset((void *)h->slots[i], 0xa5, sizeof(h->slots[i]));
}

static struct mmu_table *find_table(void *ctx, uint64_t phys)
{
	struct harness *h = ctx;
	uint64_t i = phys / MMU_PAGE_SIZE - 1;

	h_require(i < H_TABLES && h->table_live[i]);
	return &h->table[i];
}

static void get_frames(void *ctx, uint64_t first, uint64_t n)
{
	struct harness *h = ctx;

	for (uint64_t f = first; f < first + n; f++) {
		h_require(f < H_FRAMES && h->refs[f]);
		h->refs[f]++;
	}
}

static void put_frames(void *ctx, uint64_t first, uint64_t n)
{
	struct harness *h = ctx;

	for (uint64_t f = first; f < first + n; f++) {
		h_require(f < H_FRAMES && h->refs[f]);
		if (--h->refs[f])
			continue;
		h->in_use--;
		h->value[f] = 0;
	}
}

static bool frames_shared(void *ctx, uint64_t first, uint64_t n)
{
	struct harness *h = ctx;

	for (uint64_t f = first; f < first + n; f++)
		if (h->refs[f] > 1)
			return true;
	return false;
}

/* Searches for consecutive frames from the bottom, aligned to n (a power of 2). */
static uint32_t alloc_frames(struct harness *h, uint32_t n)
{
	static uint32_t hint;
	uint32_t f, align = 1;

	while (align < n)
		align *= 2;
	for (uint32_t tries = 0; tries < H_FRAMES / align; tries++) {
		hint = (hint + align) & ~(align - 1);
		if (hint + align > H_FRAMES)
			hint = 0;
		for (f = hint; f < hint + n && !h->refs[f]; f++)
			;
		if (f == hint + n) {
			for (f = hint; f < hint + n; f++) {
				h->refs[f] = 1;
				h->value[f] = ++h->next_value;
			}
			h->in_use += n;
			return hint;
		}
	}
	h_die(__FILE__, __LINE__, "no frames left");
}

static int copy_frame(void *ctx, uint64_t frame, uint64_t *copy)
{
	struct harness *h = ctx;
	uint32_t f;

	if (allowed_to_fail(h))
		return MMU_NO_MEMORY;
	f = alloc_frames(h, 1);
	h->value[f] = h->value[frame];
	*copy = f;
	return 0;
}

static bool touches(const struct mmu_flush *what, uint64_t from, uint64_t to)
{
	return what->kind == MMU_FLUSH_ROOT || (from < what->to.v && to > what->from.v);
}

static void flush(void *ctx, struct mmu_root *root, const struct mmu_flush *what)
{
	struct harness *h = ctx;
	struct h_root *r = (struct h_root *)((char *)root - offsetof(struct h_root, root));

	h_require(what->kind != MMU_FLUSH_NOTHING);
	h->flushes++;
	if (what->moved)
		r->top = r->root.top;
	for (unsigned p = 0; p < H_PAGES; p++)
		if (touches(what, p * MMU_PAGE_SIZE, (p + 1) * MMU_PAGE_SIZE))
			r->tlb[p].valid = false;
	for (unsigned level = 1; level < 4; level++)
		for (unsigned i = 0; i < H_PAGES >> (level * MMU_SLOT_BITS); i++)
			if (touches(what, i * level_size(level + 1),
				    (i + 1) * level_size(level + 1)))
				r->psc[level][i].table = NULL;
}

static const struct mmu_ops ops = {
	.alloc_table = alloc_table,
	.free_table = free_table,
	.table = find_table,
	.get_frames = get_frames,
	.put_frames = put_frames,
	.frames_shared = frames_shared,
	.copy_frame = copy_frame,
	.flush = flush,
};

/* ---- the processor ---- */

/* Returns the lowest cached table on the way to a page, or the top. */
static struct mmu_table *start_of_walk(struct h_root *r, unsigned page, bool *w)
{
	for (unsigned level = 1; level < 4; level++) {
		struct h_psc *psc = &r->psc[level][page >> (level * MMU_SLOT_BITS)];

		if (psc->table) {
			*w = psc->w;
			return psc->table;
		}
	}
	*w = true;
	return r->top;
}

/* Fills the TLB as a processor would, and sets A, and D for a write. False: a violation, which
 * drops the cached entries for the way to this page (SDM 29.4.3.1). */
static bool tlb_fill(struct harness *h, struct h_root *r, unsigned page, bool write)
{
	const struct mmu_format *f = h->mmu.format;
	bool w;
	struct mmu_table *t = start_of_walk(r, page, &w);
	uint64_t at = page * MMU_PAGE_SIZE, e;

	for (;;) {
		unsigned i = level_index(at, t->level);

		h_require(h->table_live[t - h->table]);
		e = t->slot[i];
		w &= (e & f->write) != 0;
		if (is_empty(&h->mmu, e) || (write && !w))
			break;
		if (!is_link(e, t->level)) {
			t->slot[i] |= f->accessed | (write ? f->dirty : 0);
			r->tlb[page] = (struct h_tlb){ true, w, write || (e & f->dirty),
				(uint32_t)(frame_of(e) +
					   ((at & (level_size(t->level) - 1)) >> 12)) };
			return true;
		}
		t = find_table(h, e & MMU_ADDR);
		r->psc[t->level][page >> (t->level * MMU_SLOT_BITS)] = (struct h_psc){ t, w };
	}
	for (unsigned level = 1; level < 4; level++)
		r->psc[level][page >> (level * MMU_SLOT_BITS)].table = NULL;
	r->tlb[page].valid = false;
	return false;
}

bool h_guest_read(struct harness *h, struct h_root *r, unsigned page)
{
	struct h_page *p = &r->page[page];

	if (!r->tlb[page].valid && !tlb_fill(h, r, page, false)) {
		h_require(!p->mapped);
		h_require(mmu_fault(&h->mmu, &r->root, gpa(page * MMU_PAGE_SIZE), MMU_READ, NULL) ==
			  MMU_NOT_MAPPED);
		return false;
	}
	h_require(p->mapped && h->value[r->tlb[page].frame] == p->value);
	p->accessed = true;
	return true;
}

bool h_guest_write(struct harness *h, struct h_root *r, unsigned page)
{
	struct h_page *p = &r->page[page];
	struct h_tlb *tlb = &r->tlb[page];

	/* The processor walks again for D, and before it reports a violation. */
	if ((!tlb->valid || !tlb->w || !tlb->dirty) && !tlb_fill(h, r, page, true)) {
		uint64_t frame;
		int r2 = mmu_fault(&h->mmu, &r->root, gpa(page * MMU_PAGE_SIZE), MMU_WRITE, &frame);

		if (r2 == MMU_NO_MEMORY)
			return false;
		h_require(r2 == (!p->mapped ? MMU_NOT_MAPPED : !p->w ? MMU_DENIED : 0));
		if (r2)
			return false;
		h_require(tlb_fill(h, r, page, true) && tlb->frame == frame);
	}
	h_require(p->mapped && p->w && h->value[tlb->frame] == p->value);
	p->value = h->value[tlb->frame] = ++h->next_value;
	p->accessed = p->dirty = true;
	return true;
}

/* ---- checking ---- */

static void report(void *arg, const char *what, uint64_t phys, uint64_t is, uint64_t should_be)
{
	fprintf(stderr, "%s at %#llx: %llu, should be %llu\n", what, (unsigned long long)phys,
		(unsigned long long)is, (unsigned long long)should_be);
}

static void check_counts(struct harness *h)
{
	struct mmu_root *root[H_ROOTS];
	unsigned n = 0;

	for (unsigned i = 0; i < H_ROOTS; i++)
		if (h->root[i].live)
			root[n++] = &h->root[i].root;
	memset(h->seen, 0, sizeof(h->seen));
	h_require(!mmu_check(&h->mmu, root, n, h->seen, H_FRAMES, report, NULL));
	h_require(!memcmp(h->seen, h->refs, sizeof(h->refs)));
	if (!h->visiting)
		h_require(mmu_tables(&h->mmu) == h->n_tables - h->n_free_tables);
}

static void check_page(struct harness *h, struct h_root *r, unsigned page)
{
	const struct h_page *p = &r->page[page];
	const struct h_tlb *tlb = &r->tlb[page];
	struct mmu_attr a;
	uint64_t frame;
	int e = mmu_translate(&h->mmu, &r->root, gpa(page * MMU_PAGE_SIZE), &frame, &a);

	h_require(e == (p->mapped ? 0 : MMU_NOT_MAPPED));
	/* All that the processor has cached must still be true. */
	if (tlb->valid)
		h_require(p->mapped && h->refs[tlb->frame] && h->value[tlb->frame] == p->value &&
			  (!tlb->w || (p->w && tlb->frame == frame)));
	if (e)
		return;
	/* If the processor has cached a writable translation, the tables must allow the write. */
	h_require(!tlb->valid || !tlb->w || a.w);
	h_require(h->value[frame] == p->value);
	h_require(a.r == p->r || h->mmu.format == &mmu_npt);
	h_require(a.x == p->x && a.memory_type == p->type);
	h_require(a.ignore_pat == p->ipat && a.suppress_ve == p->sve);
	/* A writable page must be allowed to be written, and must not be shared. */
	h_require(!a.w || (p->w && h->refs[frame] == 1));
	h_require((!p->accessed || a.accessed) && (!p->dirty || a.dirty));
	h_require(!p->pinned || p->frame == frame);
}

void h_check(struct harness *h)
{
	static const struct mmu_caps caps = {
		.phys_bits = 40,
		.page_2m = true,
		.page_1g = true,
		.execute_only = true,
		.no_execute = true,
	};

	check_counts(h);
	for (unsigned i = 0; i < H_ROOTS; i++) {
		struct h_root *r = &h->root[i];

		if (!r->live)
			continue;
		h_require(r->top == r->root.top);
		for (unsigned page = 0; page < H_PAGES; page++)
			check_page(h, r, page);
		for (unsigned level = 1; level < 4; level++)
			for (unsigned k = 0; k < H_PAGES >> (level * MMU_SLOT_BITS); k++)
				h_require(!r->psc[level][k].table ||
					  h->table_live[r->psc[level][k].table - h->table]);
		h_require(!mmu_check_format(&h->mmu, &r->root, &caps, report, NULL));
	}
}

/* ---- life ---- */

void h_start(struct harness *h, const struct mmu_format *format)
{
	memset(h, 0, sizeof(*h));
	h->fail_after = -1;
	mmu_init(&h->mmu, format, &ops, h);
	h_require(!mmu_root_init(&h->mmu, &h->root[0].root));
	h->root[0].top = h->root[0].root.top;
	h->root[0].live = true;
}

void h_end(struct harness *h)
{
	if (h->visiting)
		mmu_visit_end(&h->mmu, &h->visit);
	for (unsigned i = 0; i < H_ROOTS; i++)
		if (h->root[i].live)
			mmu_root_put(&h->mmu, &h->root[i].root);
	h_require(!h->in_use && !mmu_tables(&h->mmu) && h->n_free_tables == h->n_tables);
}

uint32_t h_alloc_frames(struct harness *h, uint32_t n)
{
	return alloc_frames(h, n);
}

void h_put_frames(struct harness *h, uint32_t first, uint32_t n)
{
	put_frames(h, first, n);
}
