/* SPDX-License-Identifier: Apache-2.0 */
/* Operations on the library, each with its effect on the model. */
#include <string.h>

#include "tests/mmu/harness.h"

#define PAGES(level) (1u << ((level)-1) * MMU_SLOT_BITS)

struct range {
	struct h_root *r;
	unsigned at, n;
	gpa_t gpa;
};

static struct mmu_attr attr_of(const struct h_op *op)
{
	static const uint8_t types[8] = { 6, 6, 6, 0, 4, 1, 5, 7 };

	return (struct mmu_attr){
		.r = (op->arg & 0x0c) != 0x08,
		.w = op->arg & 0x04,
		.x = !(op->arg & 0x10) || (op->arg & 0x0c) == 0x08,
		.memory_type = types[op->arg >> 5],
		.ignore_pat = op->other & 1,
		.suppress_ve = op->other & 2,
		.level = op->arg & 3,
	};
}

static bool is_valid(const struct harness *h, struct mmu_attr a)
{
	if (h->mmu.format == &mmu_npt && (a.memory_type == 1 || a.memory_type == 5))
		return false;
	return a.memory_type != 7 && (a.r || a.x);
}

static void model_attr(const struct harness *h, struct h_page *p, struct mmu_attr a)
{
	bool ept = h->mmu.format == &mmu_ept;

	p->r = a.r;
	p->w = a.w;
	p->x = a.x;
	p->type = a.memory_type;
	p->ipat = ept && a.ignore_pat;
	p->sve = ept && a.suppress_ve;
}

static bool any_pinned(const struct range *g)
{
	for (unsigned i = g->at; i < g->at + g->n; i++)
		if (g->r->page[i].pinned)
			return true;
	return false;
}

static bool all_mapped(const struct range *g)
{
	for (unsigned i = g->at; i < g->at + g->n; i++)
		if (!g->r->page[i].mapped)
			return false;
	return true;
}

/* If allocations fail, "out of memory" is always allowed. Other results must be as expected. */
static int expect(int r, int expected)
{
	h_require(r == expected || r == MMU_NO_MEMORY);
	return r;
}

static int op_map(struct harness *h, const struct h_op *op, struct range *g)
{
	struct mmu_attr a = attr_of(op);
	unsigned skew = g->at % PAGES(3), first = h_alloc_frames(h, skew + g->n), r;

	h_put_frames(h, first, skew);
	first += skew;
	r = (unsigned)expect(
		mmu_map(&h->mmu, &g->r->root, g->gpa, g->n, first, a), !is_valid(h, a) ? MMU_INVALID
								       : any_pinned(g) ? MMU_BUSY
										       : 0);
	if (r) {
		h_put_frames(h, first, g->n);
		return (int)r;
	}
	for (unsigned i = 0; i < g->n; i++) {
		struct h_page *p = &g->r->page[g->at + i];

		*p = (struct h_page){ .mapped = true, .value = h->value[first + i] };
		model_attr(h, p, a);
	}
	return 0;
}

static int op_unmap(struct harness *h, const struct h_op *op, struct range *g)
{
	int r = (op->code == H_UNMAP ? mmu_unmap : mmu_discard)(&h->mmu, &g->r->root, g->gpa, g->n);

	if (!expect(r, any_pinned(g) ? MMU_BUSY : 0))
		memset(&g->r->page[g->at], 0, g->n * sizeof(g->r->page[0]));
	return r;
}

static int op_protect(struct harness *h, const struct h_op *op, struct range *g)
{
	struct mmu_attr a = attr_of(op);
	int r = expect(mmu_protect(&h->mmu, &g->r->root, g->gpa, g->n, a),
		is_valid(h, a) ? 0 : MMU_INVALID);

	for (unsigned i = g->at; !r && i < g->at + g->n; i++)
		if (g->r->page[i].mapped)
			model_attr(h, &g->r->page[i], a);
	return r;
}

/* Returns the highest level of the leaves in the range. */
static int highest(void *arg, const struct mmu_leaf *leaf)
{
	unsigned *level = arg;

	if (leaf->attr.level > *level)
		*level = leaf->attr.level;
	return 0;
}

static int op_split(struct harness *h, const struct h_op *op, struct range *g)
{
	unsigned level = 1 + op->arg % 2, is = 0;
	int r = expect(mmu_split(&h->mmu, &g->r->root, g->gpa, g->n, level), 0);

	mmu_iterate(&h->mmu, &g->r->root, g->gpa, g->n, highest, &is);
	h_require(r || is <= level);
	return r;
}

static int op_merge(struct harness *h, const struct h_op *op, struct range *g)
{
	return expect(mmu_merge(&h->mmu, &g->r->root, g->gpa, g->n, 2 + op->arg % 2), 0);
}

static int op_pin(struct harness *h, const struct h_op *op, struct range *g)
{
	int r;

	/* Only a few pages, since pins stay for long. */
	g->n = 1 + (g->n - 1) % 2;
	r = expect(mmu_pin(&h->mmu, &g->r->root, g->gpa, g->n), !all_mapped(g)	? MMU_NOT_MAPPED
								: any_pinned(g) ? MMU_BUSY
										: 0);
	for (unsigned i = g->at; !r && i < g->at + g->n; i++) {
		struct mmu_attr a;
		uint64_t frame;

		h_require(!mmu_translate(&h->mmu, &g->r->root, gpa(i * MMU_PAGE_SIZE), &frame, &a));
		g->r->page[i].pinned = true;
		g->r->page[i].frame = (uint32_t)frame;
	}
	return r;
}

static int op_unpin(struct harness *h, const struct h_op *op, struct range *g)
{
	bool all = true;
	int r;

	g->n = 1 + (g->n - 1) % 2;
	for (unsigned i = g->at; i < g->at + g->n; i++)
		all &= g->r->page[i].pinned;
	r = expect(mmu_unpin(&h->mmu, &g->r->root, g->gpa, g->n), all ? 0 : MMU_INVALID);
	for (unsigned i = g->at; !r && i < g->at + g->n; i++)
		g->r->page[i].pinned = false;
	return r;
}

struct harvested {
	struct h_root *r;
	unsigned what;
	bool page[H_PAGES];
};

static int harvest(void *arg, const struct mmu_leaf *leaf)
{
	struct harvested *v = arg;
	unsigned first = (unsigned)(leaf->at.v / MMU_PAGE_SIZE);

	h_require(((v->what & MMU_HARVEST_ACCESSED) && leaf->attr.accessed) ||
		  ((v->what & MMU_HARVEST_DIRTY) && leaf->attr.dirty));
	for (unsigned i = first; i < first + PAGES(leaf->attr.level); i++) {
		h_require(v->r->page[i].mapped);
		v->page[i] = true;
	}
	return 0;
}

static int op_harvest(struct harness *h, const struct h_op *op, struct range *g)
{
	struct harvested v = { .r = g->r, .what = op->arg & 7 };
	int r = expect(mmu_harvest(&h->mmu, &g->r->root, g->gpa, g->n, v.what, harvest, &v), 0);

	for (unsigned i = g->at; !r && i < g->at + g->n; i++) {
		const struct h_page *p = &g->r->page[i];

		h_require(v.page[i] || ((!p->accessed || !(v.what & MMU_HARVEST_ACCESSED)) &&
					       (!p->dirty || !(v.what & MMU_HARVEST_DIRTY))));
	}
	for (unsigned i = 0; !r && (v.what & MMU_HARVEST_CLEAR) && i < H_PAGES; i++) {
		struct h_page *p = &g->r->page[i];

		p->accessed &= !v.page[i] || !(v.what & MMU_HARVEST_ACCESSED);
		p->dirty &= !v.page[i] || !(v.what & MMU_HARVEST_DIRTY);
	}
	return r;
}

static int op_share_span(struct harness *h, const struct h_op *op, struct range *g)
{
	struct h_root *src = &h->root[op->other % H_ROOTS];
	struct range from = { src, g->at & ~(MMU_SLOTS - 1), MMU_SLOTS, { 0 } };
	struct range to = { g->r, from.at, from.n, gpa(from.at * MMU_PAGE_SIZE) };
	int r;

	if (!src->live)
		return 0;
	r = expect(mmu_share_span(&h->mmu, &g->r->root, &src->root, to.gpa),
		src != g->r && (any_pinned(&from) || any_pinned(&to)) ? MMU_BUSY : 0);
	if (!r)
		memmove(&g->r->page[to.at], &src->page[to.at], MMU_SLOTS * sizeof(src->page[0]));
	return r;
}

static int op_overlay(struct harness *h, const struct h_op *op, struct range *g)
{
	struct range span = { g->r, g->at & ~(MMU_SLOTS - 1), MMU_SLOTS, { 0 } };
	uint64_t bitmap[MMU_BITMAP] = { op->n & ((1u << MMU_SLOTS) - 1) }, frame[MMU_SLOTS];
	struct mmu_attr a = attr_of(op);
	unsigned first = h_alloc_frames(h, MMU_SLOTS);
	int r;

	for (unsigned i = 0; i < MMU_SLOTS; i++)
		frame[i] = first + i;
	r = expect(mmu_overlay_span(
			   &h->mmu, &g->r->root, gpa(span.at * MMU_PAGE_SIZE), bitmap, frame, a),
		!is_valid(h, a)	    ? MMU_INVALID
		: any_pinned(&span) ? MMU_BUSY
				    : 0);
	for (unsigned i = 0; i < MMU_SLOTS; i++) {
		struct h_page *p = &g->r->page[span.at + i];

		if (r || !(bitmap[0] >> i & 1)) {
			h_put_frames(h, first + i, 1);
			continue;
		}
		*p = (struct h_page){ .mapped = true, .value = h->value[first + i] };
		model_attr(h, p, a);
	}
	return r;
}

static int op_fork(struct harness *h, const struct h_op *op, struct range *g)
{
	struct h_root *dst = &h->root[op->other % H_ROOTS];
	int r;

	if (dst->live)
		return 0;
	memset(dst, 0, sizeof(*dst));
	r = expect(mmu_fork(&h->mmu, &g->r->root, op->arg % 5, &dst->root), 0);
	if (r)
		return r;
	dst->live = true;
	dst->top = dst->root.top;
	memcpy(dst->page, g->r->page, sizeof(dst->page));
	memcpy(dst->region, g->r->region, sizeof(dst->region));
	if (dst->root.region)
		dst->root.region = dst->region;
	for (unsigned i = 0; i < H_PAGES; i++)
		dst->page[i].pinned = false;
	return 0;
}

static int op_put(struct harness *h, struct range *g)
{
	unsigned live = 0;

	for (unsigned i = 0; i < H_ROOTS; i++)
		live += h->root[i].live;
	if (live < 2)
		return 0;
	mmu_root_put(&h->mmu, &g->r->root);
	g->r->live = false;
	return 0;
}

static int op_new(struct harness *h, const struct h_op *op)
{
	struct h_root *r = &h->root[op->other % H_ROOTS];
	int e;

	if (r->live)
		return 0;
	memset(r, 0, sizeof(*r));
	e = expect(mmu_root_init(&h->mmu, &r->root), 0);
	r->live = !e;
	r->top = r->root.top;
	return e;
}

static int op_region(const struct h_op *op, struct range *g)
{
	unsigned border = op->n % (H_PAGES - 1) + 1;

	g->r->region[0] = (struct mmu_region){ gpa(0), border, op->arg % 5 };
	g->r->region[1] = (struct mmu_region){ gpa(border * MMU_PAGE_SIZE), H_PAGES - border,
		op->arg / 5 % 5 };
	g->r->root.region = op->arg & 0x80 ? NULL : g->r->region;
	g->r->root.n_regions = op->arg & 0x80 ? 0 : op->arg & 0x40 ? 1 : 2;
	return 0;
}

struct difference {
	bool page[H_PAGES];
};

static int differs(
	void *arg, gpa_t at, uint64_t n, const struct mmu_leaf *a, const struct mmu_leaf *b)
{
	struct difference *d = arg;

	h_require(a || b);
	for (uint64_t i = at.v / MMU_PAGE_SIZE; i < at.v / MMU_PAGE_SIZE + n; i++) {
		h_require(!d->page[i]);
		d->page[i] = true;
	}
	return 0;
}

static int op_diff(struct harness *h, const struct h_op *op, struct range *g)
{
	struct h_root *other = &h->root[op->other % H_ROOTS];
	struct difference d = { { false } };

	if (!other->live)
		return 0;
	h_require(!mmu_diff(&h->mmu, &g->r->root, &other->root, differs, &d, NULL));
	for (unsigned i = 0; i < H_PAGES; i++) {
		const struct h_page *a = &g->r->page[i], *b = &other->page[i];
		uint64_t frame[2] = { 0, 0 };
		struct mmu_attr attr[2] = { { 0 }, { 0 } };

		mmu_translate(&h->mmu, &g->r->root, gpa(i * MMU_PAGE_SIZE), &frame[0], &attr[0]);
		mmu_translate(&h->mmu, &other->root, gpa(i * MMU_PAGE_SIZE), &frame[1], &attr[1]);
		h_require(d.page[i] == (a->mapped != b->mapped || frame[0] != frame[1] ||
					       attr[0].r != attr[1].r || a->w != b->w ||
					       a->x != b->x || a->type != b->type ||
					       a->ipat != b->ipat || a->sve != b->sve));
	}
	return 0;
}

static int op_visit(struct harness *h, struct range *g)
{
	if (h->visiting) {
		h_require(h->table_live[h->visit.table - h->table]);
		mmu_visit_end(&h->mmu, &h->visit);
		h->visiting = false;
	} else if (h->mmu.scheme == &mmu_atomic) {
		h->visiting = mmu_visit(&h->mmu, &g->r->root, g->gpa, &h->visit);
	}
	return 0;
}

static int op_scheme(struct harness *h, const struct h_op *op)
{
	static const struct mmu_scheme *const scheme[] = { &mmu_none, &mmu_scan, &mmu_atomic };

	if (!h->visiting)
		h->mmu.scheme = scheme[op->arg % 3];
	h->mmu.keep = op->n % 4;
	return 0;
}

/* A device writes to a pinned page, without a table walk. */
static int op_device_write(struct harness *h, struct range *g)
{
	struct h_page *p = &g->r->page[g->at];

	if (p->pinned && p->w)
		p->value = h->value[p->frame] = ++h->next_value;
	return 0;
}

static int run(struct harness *h, const struct h_op *op, struct range *g)
{
	switch (op->code % H_CODES) {
	case H_MAP:
		return op_map(h, op, g);
	case H_UNMAP:
	case H_DISCARD:
		return op_unmap(h, op, g);
	case H_PROTECT:
		return op_protect(h, op, g);
	case H_SPLIT:
		return op_split(h, op, g);
	case H_MERGE:
		return op_merge(h, op, g);
	case H_FORK:
		return op_fork(h, op, g);
	case H_PUT:
		return op_put(h, g);
	case H_WRITE:
		return h_guest_write(h, g->r, g->at) ? 0 : 1;
	case H_READ:
		return h_guest_read(h, g->r, g->at) ? 0 : 1;
	case H_PIN:
		return op_pin(h, op, g);
	case H_UNPIN:
		return op_unpin(h, op, g);
	case H_HARVEST:
		return op_harvest(h, op, g);
	case H_SHARE_SPAN:
		return op_share_span(h, op, g);
	case H_OVERLAY:
		return op_overlay(h, op, g);
	case H_RECLAIM:
		mmu_reclaim(&h->mmu, &g->r->root);
		return 0;
	case H_NEW:
		return op_new(h, op);
	case H_REGION:
		return op_region(op, g);
	case H_DIFF:
		return op_diff(h, op, g);
	case H_VISIT:
		return op_visit(h, g);
	case H_DEVICE_WRITE:
		return op_device_write(h, g);
	default:
		return op_scheme(h, op);
	}
}

int h_run(struct harness *h, const struct h_op *op)
{
	struct range g;
	unsigned i = op->root % H_ROOTS;
	int r;

	while (!h->root[i].live)
		i = (i + 1) % H_ROOTS;
	g.r = &h->root[i];
	g.at = op->at % H_PAGES;
	g.n = 1 + op->n % (H_PAGES - g.at);
	g.gpa = gpa(g.at * MMU_PAGE_SIZE);
	h->fail_after = op->fail < H_FAILS ? op->fail / 2 : -1;
	r = run(h, op, &g);
	/* "Out of memory" is only allowed if an allocation has failed. */
	h_require(r != MMU_NO_MEMORY || h->fail_after < 0);
	h_require(r != MMU_NO_MEMORY || op->fail < H_FAILS);
	h->fail_after = -1;
	return r;
}
