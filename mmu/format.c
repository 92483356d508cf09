// SPDX-License-Identifier: Apache-2.0
/* The two formats: convert attributes to bits and back. */
#include "mmu/entry.h"

enum { UC = 0, WC = 1, WT = 4, WP = 5, WB = 6 };

/* EPT: SDM vol. 3, 29.3.2, tables 29-1 to 29-6. */
static bool ept_leaf(struct mmu_attr a, unsigned level, uint64_t *bits)
{
	/* W without R and the types 2, 3 and 7 are misconfigurations (29.3.3.1). */
	if ((!a.r && !a.x) || (a.w && !a.r) || a.memory_type > WB || a.memory_type == 2 ||
		a.memory_type == 3)
		return false;
	*bits = (a.r ? EPT_R : 0) | (a.w ? EPT_W | MMU_INTENT : 0) | (a.x ? EPT_X : 0) |
		(uint64_t)a.memory_type << 3 | (a.ignore_pat ? EPT_IPAT : 0) |
		(a.accessed ? EPT_A : 0) | (a.dirty ? EPT_D : 0) | (a.suppress_ve ? EPT_SVE : 0) |
		(level > 1 ? MMU_PS : 0);
	return true;
}

static struct mmu_attr ept_attr(uint64_t e)
{
	return (struct mmu_attr){
		.r = e & EPT_R,
		.w = e & EPT_W,
		.x = e & EPT_X,
		.memory_type = (e & EPT_TYPE) >> 3,
		.ignore_pat = e & EPT_IPAT,
		.suppress_ve = e & EPT_SVE,
		.accessed = e & EPT_A,
		.dirty = e & EPT_D,
	};
}

/* NPT: long-mode entries, always "user" (APM vol. 2, 15.25.5). The reset value of the PAT (7.8.2)
 * has WB at 0, WT at 1, UC- at 2 and UC at 3; 4 to 7 are the same as 0 to 3. */
static bool npt_leaf(struct mmu_attr a, unsigned level, uint64_t *bits)
{
	if ((!a.r && !a.x) || (a.w && !a.r) ||
		(a.memory_type != WB && a.memory_type != WT && a.memory_type != UC))
		return false;
	*bits = NPT_P | NPT_U | (a.w ? NPT_W | MMU_INTENT : 0) | (a.x ? 0 : NPT_NX) |
		(a.memory_type == WT	      ? NPT_PWT
			: a.memory_type == UC ? NPT_PWT | NPT_PCD
					      : 0) |
		(a.accessed ? NPT_A : 0) | (a.dirty ? NPT_D : 0) | (level > 1 ? MMU_PS : 0);
	return true;
}

static struct mmu_attr npt_attr(uint64_t e)
{
	uint64_t type = e & (NPT_PWT | NPT_PCD);

	return (struct mmu_attr){
		.r = e & NPT_P,
		.w = e & NPT_W,
		.x = !(e & NPT_NX),
		.memory_type = type == 0	 ? WB
			       : type == NPT_PWT ? WT
						 : UC,
		.accessed = e & NPT_A,
		.dirty = e & NPT_D,
	};
}

/*
 * EPT misconfigurations: SDM vol. 3, 29.3.3.1 has the conditions, tables 29-1 to 29-6 the reserved
 * bits.
 */
static const char *ept_validate(const struct mmu_caps *caps, unsigned level, uint64_t e)
{
	bool leaf = level == 1 || (e & MMU_PS);
	uint64_t type = (e & EPT_TYPE) >> 3;

	if ((e & EPT_W) && !(e & EPT_R))
		return "W without R (SDM 29.3.3.1)";
	if (!(e & EPT_R) && !caps->execute_only)
		return "X without R, and no execute-only translations (SDM 29.3.3.1)";
	if (level == MMU_LEVELS && (e & MMU_PS))
		return "bit 7 of a PML4 entry is reserved (SDM table 29-1)";
	if (!leaf && (e & (EPT_TYPE | EPT_IPAT)))
		return "bits 6:3 of a link are reserved (SDM tables 29-1, 29-3, 29-5)";
	if (leaf && (type == 2 || type == 3 || type == 7))
		return "memory type 2, 3 or 7 is reserved (SDM 29.3.3.1)";
	return NULL;
}

/* NPT: APM vol. 2, 5.3.3, figures 5-20 to 5-29, and 15.25.6. */
static const char *npt_validate(const struct mmu_caps *caps, unsigned level, uint64_t e)
{
	if (!(e & NPT_U))
		return "U clear: nested walks are user accesses (APM 15.25.5)";
	if ((e & NPT_NX) && !caps->no_execute)
		return "NX is reserved while EFER.NXE is 0 (APM 5.6.1)";
	if (level == MMU_LEVELS && (e & (MMU_PS | NPT_G)))
		return "bits 8:7 of a PML4 entry must be zero (APM figure 5-20)";
	return NULL;
}

const struct mmu_format mmu_ept = {
	.name = "EPT",
	.present = EPT_R | EPT_W | EPT_X,
	.write = EPT_W,
	.accessed = EPT_A,
	.dirty = EPT_D,
	.link = EPT_R | EPT_W | EPT_X,
	.grants = EPT_R | EPT_W | EPT_X | EPT_A | EPT_D,
	.type = EPT_TYPE | EPT_IPAT | EPT_SVE,
	.attr_bits = EPT_R | EPT_X | EPT_TYPE | EPT_IPAT | EPT_SVE | MMU_INTENT,
	.leaf = ept_leaf,
	.attr = ept_attr,
	.validate = ept_validate,
};

const struct mmu_format mmu_npt = {
	.name = "NPT",
	.present = NPT_P,
	.write = NPT_W,
	.accessed = NPT_A,
	.dirty = NPT_D,
	.link = NPT_P | NPT_W | NPT_U,
	.grants = NPT_P | NPT_W | NPT_U | NPT_A | NPT_D,
	.denies = NPT_NX,
	.type = NPT_PWT | NPT_PCD,
	.attr_bits = NPT_PWT | NPT_PCD | NPT_NX | MMU_INTENT,
	.leaf = npt_leaf,
	.attr = npt_attr,
	.validate = npt_validate,
};

const char *mmu_validate(const struct mmu_format *format, const struct mmu_caps *caps,
	unsigned level, uint64_t entry)
{
	uint64_t present = format->present, low;
	const char *why;

	if (format == &mmu_ept && caps->mode_based_execute)
		present |= EPT_XU;
	if (!(entry & present))
		return NULL;
	why = format->validate(caps, level, entry);
	if (why)
		return why;
	/* Rules of both formats: SDM 29.3.3.1 (a reserved bit is set, for example in 51:12 beyond
	 * the physical-address width); APM 5.3.3. */
	if (entry & MMU_ADDR & ~((1ull << caps->phys_bits) - 1))
		return "address beyond the physical-address width";
	if (level == 1 || !(entry & MMU_PS))
		return NULL;
	if (level == 3 ? !caps->page_1g : !caps->page_2m)
		return "no leaves of this size on this processor";
	/* Bit 12 of a large NPT leaf is its PAT bit. */
	low = (level_size(level) - 1) & MMU_ADDR;
	if (format == &mmu_npt)
		low &= ~(1ull << 12);
	return entry & low ? "address of a large leaf is not aligned" : NULL;
}
