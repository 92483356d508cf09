/* SPDX-License-Identifier: Apache-2.0 */
#include <elf.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "vmm/boot/elf.h"
#include "include/ramet/abi.h"

/* Returns a copy, because headers in the file may not be aligned. */
static Elf64_Phdr segment(const uint8_t *file, const Elf64_Ehdr *eh, unsigned i)
{
	Elf64_Phdr ph;

	memcpy(&ph, file + eh->e_phoff + i * sizeof(ph), sizeof(ph));
	return ph;
}

/* True if the segment must be loaded. Both passes use this. */
static bool loads(const Elf64_Phdr *ph)
{
	return ph->p_type == PT_LOAD && (ph->p_memsz || ph->p_filesz);
}

static const char *header_fault(const Elf64_Ehdr *eh, size_t len)
{
	if (memcmp(eh->e_ident, ELFMAG, SELFMAG))
		return "no ELF magic";
	if (eh->e_ident[EI_CLASS] != ELFCLASS64 || eh->e_ident[EI_DATA] != ELFDATA2LSB ||
		eh->e_machine != EM_X86_64)
		return "not for x86-64";
	if (eh->e_ident[EI_VERSION] != EV_CURRENT || eh->e_version != EV_CURRENT)
		return "unknown ELF version";
	if (eh->e_type != ET_EXEC)
		return "not an executable with fixed addresses";
	if (eh->e_phentsize != sizeof(Elf64_Phdr) || !eh->e_phnum || eh->e_phnum == PN_XNUM)
		return "no usable program headers";
	if (eh->e_phoff > len || (len - eh->e_phoff) / sizeof(Elf64_Phdr) < eh->e_phnum)
		return "program headers beyond the end of the file";
	return NULL;
}

static const char outside_ram[] = "a segment outside RAM";

/* `free`: the lowest address at which this segment may start. Segments must ascend, so that none
 * overlaps another. */
static const char *segment_fault(
	const Elf64_Phdr *ph, size_t len, const struct boot_memory *mem, uint64_t free)
{
	if (ph->p_filesz > ph->p_memsz)
		return "a segment larger in the file than in memory";
	if (ph->p_offset > len || ph->p_filesz > len - ph->p_offset)
		return "a segment beyond the end of the file";
	if (ph->p_paddr < free)
		return "segments that overlap, are out of order or lie too low";
	if (!boot_mem(mem, gpa(ph->p_paddr), ph->p_memsz))
		return outside_ram;
	return NULL;
}

/* The error includes the memory size that would be enough, if there is one. */
static int refuse_outside(const uint8_t *file, const Elf64_Ehdr *eh, struct ramet_err *err)
{
	const uint64_t step = 2u << 20;
	uint64_t end = 0;

	for (unsigned i = 0; i < eh->e_phnum; i++) {
		Elf64_Phdr ph = segment(file, eh, i);

		if (!loads(&ph))
			continue;
		if (ph.p_paddr >= RAMET_RAM_HOLE || ph.p_memsz > RAMET_RAM_HOLE - ph.p_paddr)
			return err_set(err, -ENOEXEC,
				"ELF image: a segment where this machine never has RAM");
		if (ph.p_paddr + ph.p_memsz > end)
			end = ph.p_paddr + ph.p_memsz;
	}
	return err_set(err, -ENOEXEC,
		"ELF image: a segment outside RAM: it needs --memory %lluM or more",
		(unsigned long long)((end + step - 1) / step * step >> 20));
}

int elf_load(const void *file, size_t len, const struct boot_memory *mem, uint64_t lowest,
	struct elf_image *image, struct ramet_err *err)
{
	struct elf_image im = { .end = lowest };
	const char *fault;
	Elf64_Ehdr eh;

	if (len < sizeof(eh))
		return err_set(err, -ENOEXEC, "ELF image: shorter than its header");
	memcpy(&eh, file, sizeof(eh));
	fault = header_fault(&eh, len);
	for (unsigned i = 0; !fault && i < eh.e_phnum; i++) {
		Elf64_Phdr ph = segment(file, &eh, i);

		if (!loads(&ph))
			continue;
		fault = segment_fault(&ph, len, mem, im.end);
		if (fault)
			break;
		if (!im.start)
			im.start = ph.p_paddr;
		im.end = ph.p_paddr + ph.p_memsz;
	}
	if (!fault && !im.start)
		fault = "nothing to load";
	if (fault == outside_ram)
		return refuse_outside(file, &eh, err);
	if (fault)
		return err_set(err, -ENOEXEC, "ELF image: %s", fault);

	for (unsigned i = 0; i < eh.e_phnum; i++) {
		Elf64_Phdr ph = segment(file, &eh, i);

		if (loads(&ph))
			memcpy(boot_mem(mem, gpa(ph.p_paddr), ph.p_filesz),
				(const uint8_t *)file + ph.p_offset, ph.p_filesz);
	}
	im.entry = eh.e_entry;
	*image = im;
	return 0;
}

bool elf_has(const void *file, uint64_t gpa)
{
	Elf64_Ehdr eh;

	memcpy(&eh, file, sizeof(eh));
	for (unsigned i = 0; i < eh.e_phnum; i++) {
		Elf64_Phdr ph = segment(file, &eh, i);

		if (loads(&ph) && gpa - ph.p_paddr < ph.p_filesz)
			return true;
	}
	return false;
}
