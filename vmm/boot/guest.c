/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Booting a built-in guest: the entry state of ramet/abi.h.
 *
 * Page-table entries and control registers: SDM vol. 3, 4.5.4 and 2.5; segment attributes that VM
 * entry requires: SDM vol. 3, 26.3.1.2.
 */
#include <errno.h>
#include <string.h>

#include "guest/guests.h"
#include "include/ramet/abi.h"
#include "vmm/boot/boot.h"
#include "vmm/boot/elf.h"

#define PTE_P	(1ull << 0)
#define PTE_W	(1ull << 1)
#define PTE_U	(1ull << 2)
#define PTE_PWT (1ull << 3)
#define PTE_PCD (1ull << 4)
#define PTE_A	(1ull << 5)
#define PTE_D	(1ull << 6)
#define PTE_PS	(1ull << 7)

#define ENTRIES 512u
#define TABLE	(ENTRIES * 8ull)
#define SPAN	(2ull << 20)
#define GIB	(1ull << 30)

/* The span that contains the local APIC's page. No RAM and no other device is in this span. */
#define LAPIC_SPAN 0xfee00000ull

/*
 * PML4 and PDPT, then one page directory for each GiB up to the end of RAM. The largest machine has
 * 65 + 2 tables. They must end below the image.
 */
#define TABLES_MAX (2 + RAMET_MEMORY_MAX / GIB + 1)
_Static_assert(RAMET_GPA_TABLES + TABLES_MAX * TABLE <= 0xa0000,
	"the tables stay below what a PC keeps for its video memory");
_Static_assert(RAMET_GPA_FDT + RAMET_FDT_MAX <= RAMET_GPA_TABLES, "FDT and tables overlap");

static uint64_t ram_end(const struct ram_layout *ram)
{
	return ram->r[ram->n - 1].gpa.v + ram->r[ram->n - 1].len;
}

static uint64_t leaf(const struct ram_layout *ram, uint64_t gpa)
{
	/* Accessed and dirty are set now, so that the processor need not write to the tables. */
	const uint64_t attr = PTE_P | PTE_W | PTE_U | PTE_A | PTE_D | PTE_PS;

	if (gpa == LAPIC_SPAN)
		return gpa | attr | PTE_PCD | PTE_PWT;
	for (unsigned i = 0; i < ram->n; i++)
		if (gpa - ram->r[i].gpa.v < ram->r[i].len)
			return gpa | attr;
	return 0;
}

/* Maps every span of RAM and the local APIC's span. */
int boot_tables(const struct boot_memory *mem)
{
	const uint64_t attr = PTE_P | PTE_W | PTE_U | PTE_A;
	uint64_t end = ram_end(mem->ram) < RAMET_RAM_HIGH ? RAMET_RAM_HIGH : ram_end(mem->ram);
	uint64_t n_pd = (end + GIB - 1) / GIB;
	uint64_t *pml4 = boot_mem(mem, gpa(RAMET_GPA_TABLES), (2 + n_pd) * TABLE);
	uint64_t *pdpt, *pd;

	if (!pml4)
		return -EINVAL;
	pdpt = pml4 + ENTRIES;
	pd = pdpt + ENTRIES;
	pml4[0] = (RAMET_GPA_TABLES + TABLE) | attr;
	for (uint64_t i = 0; i < n_pd; i++)
		pdpt[i] = (RAMET_GPA_TABLES + (2 + i) * TABLE) | attr;
	for (uint64_t i = 0; i < n_pd * ENTRIES; i++)
		pd[i] = leaf(mem->ram, i * SPAN);
	return 0;
}

int boot_guest_load(
	const struct ramet_config *cfg, const struct boot_memory *mem, struct ramet_err *err)
{
	void *fdt = boot_mem(mem, gpa(RAMET_GPA_FDT), RAMET_FDT_MAX);
	struct elf_image image;
	const void *elf;
	size_t len;
	int ret;

	ret = guest_image(cfg->guest, &elf, &len);
	if (ret)
		return err_set(err, ret, "no built-in guest is called '%s'", cfg->guest);
	if (!fdt || boot_tables(mem))
		return err_set(err, -EINVAL, "guest '%s': too little memory", cfg->guest);
	ret = machine_fdt(cfg, mem->ram, fdt, RAMET_FDT_MAX);
	if (ret)
		return err_set(err, ret,
			"guest '%s': the arguments are too long for its device tree", cfg->guest);
	ret = elf_load(elf, len, mem, RAMET_GPA_IMAGE, &image, err);
	if (!ret && (image.entry != RAMET_GPA_IMAGE || !elf_has(elf, image.entry)))
		ret = err_set(err, -ENOEXEC, "guest '%s': its entry point is not its first byte",
			cfg->guest);
	return ret;
}

void boot_guest_vcpu(const struct ramet_config *cfg, unsigned index, struct boot_vcpu *vcpu)
{
	struct kvm_sregs *s = &vcpu->sregs;

	s->cs = boot_segment(0x08, 0xb); /* code, readable, accessed */
	s->cs.l = 1;
	s->cs.db = 0;
	s->ss = boot_segment(0x10, 0x3); /* data, writable, accessed */
	s->ds = s->es = s->fs = s->gs = s->ss;
	s->tr = (struct kvm_segment){ .limit = 0x67, .type = 0xb, .present = 1 }; /* busy TSS */
	s->ldt = (struct kvm_segment){ .unusable = 1 };
	s->gdt = s->idt = (struct kvm_dtable){ 0 };
	s->cr0 = 0x80050033; /* PG AM WP NE ET MP PE */
	s->cr3 = RAMET_GPA_TABLES;
	s->cr4 = 0x620;	 /* OSXMMEXCPT OSFXSR PAE */
	s->efer = 0x501; /* LMA LME SCE */
	vcpu->regs = (struct kvm_regs){
		.rip = RAMET_GPA_IMAGE,
		.rflags = 0x3002, /* IOPL 3 */
		.rdi = RAMET_GPA_FDT,
		.rsi = index,
	};
	vcpu->wait_for_sipi = false;
}
