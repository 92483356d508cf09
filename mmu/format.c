// SPDX-License-Identifier: Apache-2.0
/* The two formats. */
#include "mmu/entry.h"

/* EPT: SDM vol. 3, 29.3.2, tables 29-1 to 29-6. */
#define EPT_R	 (1ull << 0)
#define EPT_W	 (1ull << 1)
#define EPT_X	 (1ull << 2)
#define EPT_TYPE 3 /* bits 5:3 of a leaf: the memory type, numbered as in the MTRRs */
#define EPT_IPAT (1ull << 6)
#define EPT_PS	 (1ull << 7)

_Static_assert((EPT_R | EPT_W | EPT_X) == 7, "any of bits 2:0 makes an EPT entry present");
_Static_assert(((EPT_IPAT | EPT_PS | 7ull << EPT_TYPE) & (MMU_ADDR | MMU_INTENT | MMU_LINK)) == 0,
	"no overlap");

static uint64_t ept_leaf(struct mmu_attr a)
{
	/* W without R would be a misconfiguration (29.3.3.1). */
	return (a.r || a.w ? EPT_R : 0) | (a.w ? EPT_W : 0) | (a.x ? EPT_X : 0) |
	       (uint64_t)(a.memory_type & 7) << EPT_TYPE | EPT_IPAT;
}

static struct mmu_attr ept_attr(uint64_t e)
{
	return (struct mmu_attr){
		.r = e & EPT_R, .w = e & EPT_W, .x = e & EPT_X, .memory_type = e >> EPT_TYPE & 7
	};
}

const struct mmu_format mmu_ept = {
	.name = "EPT",
	.present = EPT_R | EPT_W | EPT_X,
	.write = EPT_W,
	.link = EPT_R | EPT_W | EPT_X,
	.leaf = ept_leaf,
	.attr = ept_attr,
};

/* NPT: long-mode entries, always "user" (APM vol. 2, 15.25.5). */
#define NPT_P	(1ull << 0)
#define NPT_W	(1ull << 1)
#define NPT_U	(1ull << 2)
#define NPT_PWT (1ull << 3)
#define NPT_PCD (1ull << 4)
#define NPT_A	(1ull << 5)
#define NPT_D	(1ull << 6)
#define NPT_PAT (1ull << 7) /* in a 4 KiB leaf */
#define NPT_NX	(1ull << 63)

_Static_assert(((NPT_P | NPT_W | NPT_U | NPT_PWT | NPT_PCD | NPT_A | NPT_D | NPT_PAT | NPT_NX) &
		       (MMU_ADDR | MMU_INTENT | MMU_LINK)) == 0,
	"no overlap");

/* The PAT as it is after reset (APM vol. 2, 7.8.2) has WB at 0, WT at 1, UC- at 2 and UC at 3, and
 * the same again. */
static uint64_t npt_type(uint8_t type)
{
	return type == 6 ? 0 : type == 4 ? NPT_PWT : NPT_PWT | NPT_PCD;
}

static uint64_t npt_leaf(struct mmu_attr a)
{
	return (a.r || a.w || a.x ? NPT_P | NPT_U : 0) | (a.w ? NPT_W : 0) | (a.x ? 0 : NPT_NX) |
	       npt_type(a.memory_type);
}

static struct mmu_attr npt_attr(uint64_t e)
{
	uint64_t type = e & (NPT_PWT | NPT_PCD);

	return (struct mmu_attr){
		.r = e & NPT_P,
		.w = e & NPT_W,
		.x = !(e & NPT_NX),
		.memory_type = type == 0	 ? 6
			       : type == NPT_PWT ? 4
						 : 0,
	};
}

const struct mmu_format mmu_npt = {
	.name = "NPT",
	.present = NPT_P,
	.write = NPT_W,
	.link = NPT_P | NPT_W | NPT_U,
	.leaf = npt_leaf,
	.attr = npt_attr,
};
