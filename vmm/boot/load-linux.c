/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Booting a Linux kernel: read the files, place kernel, initrd, command line, tables; start vCPU 0
 * as the kernel's boot protocol says. Sources: Linux Documentation/arch/x86/boot.rst ("64-bit boot
 * protocol"); Xen docs/misc/pvh.pandoc ("start of day"); SDM vol. 3, 9.4 for INIT.
 */
#include <errno.h>
#include <libfdt.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "include/ramet/abi.h"
#include "vmm/base/io.h"
#include "vmm/boot/linux.h"

#define PAGE 4096ull

/* Selectors that both protocols require or allow. */
enum { BOOT_CS = 0x10, BOOT_DS = 0x18, BOOT_TSS = 0x20 };

/* Larger than any vmlinux with debugging information. */
#define KERNEL_FILE_MAX (2ull << 30)

/* Opens the user's file. Returns its descriptor, or -errno; an empty file is an error. */
static int file_open(const char *what, const char *path, uint64_t *size, struct ramet_err *err)
{
	const char *why;
	int fd = io_open_regular(path, size, &why);

	if (fd < 0)
		return err_set(err, fd, "%s '%s': %s", what, path, why);
	if (*size)
		return fd;
	close(fd);
	return err_set(err, -EINVAL, "%s '%s': an empty file", what, path);
}

static int file_read(
	int fd, const char *what, const char *path, void *buf, uint64_t size, struct ramet_err *err)
{
	int ret = io_read(fd, buf, size);

	return ret ? err_set(err, ret, "%s '%s': cannot read all of it: %s", what, path,
			     strerror(-ret))
		   : 0;
}

/* Loads from a copy of the file. With a mapping of the file, a SIGBUS would come if another process
 * made the file shorter meanwhile. */
static int load_kernel_from(int fd, uint64_t size, const struct ramet_config *cfg,
	const struct boot_memory *mem, struct linux_image *image, struct ramet_err *err)
{
	struct ramet_err why = { "" };
	void *file;
	int ret;

	if (size > KERNEL_FILE_MAX)
		return err_set(err, -EFBIG, "kernel '%s': the file is too large for a kernel",
			cfg->kernel);
	file = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (file == MAP_FAILED)
		return err_set(err, -ENOMEM, "kernel '%s': no memory for it", cfg->kernel);
	ret = file_read(fd, "kernel", cfg->kernel, file, size, err);
	if (!ret) {
		ret = linux_load_image(file, size, mem, image, &why);
		if (ret)
			err_set(err, ret, "kernel '%s': %s", cfg->kernel, why.msg);
	}
	munmap(file, size);
	return ret;
}

static int load_kernel(const struct ramet_config *cfg, const struct boot_memory *mem,
	struct linux_image *image, struct ramet_err *err)
{
	uint64_t size;
	int fd = file_open("kernel", cfg->kernel, &size, err), ret;

	if (fd < 0)
		return fd;
	ret = load_kernel_from(fd, size, cfg, mem, image, err);
	close(fd);
	return ret;
}

static uint64_t page_up(uint64_t v)
{
	return (v + PAGE - 1) & ~(PAGE - 1);
}

static int no_room(const struct ramet_config *cfg, const struct linux_image *image, uint64_t size,
	struct ramet_err *err)
{
	uint64_t end = page_up(image->end) + page_up(size);

	if (end > image->initrd_end || end > RAMET_RAM_HOLE)
		return err_set(err, -ENOSPC,
			"initrd '%s': its %llu MiB do not fit with any --memory; use a smaller one",
			cfg->initrd, (unsigned long long)size >> 20);
	return err_set(err, -ENOSPC,
		"initrd '%s': its %llu KiB do not fit above the kernel, which ends at %llu MiB: "
		"it needs --memory %lluM or more",
		cfg->initrd, (unsigned long long)size >> 10, (unsigned long long)image->end >> 20,
		(unsigned long long)linux_memory_for(end) >> 20);
}

/* Loads the initrd as high as kernel and RAM allow: there the kernel needs no memory early. */
static int load_initrd(const struct ramet_config *cfg, const struct boot_memory *mem,
	const struct linux_image *image, struct linux_params *params, struct ramet_err *err)
{
	uint64_t end = mem->ram->r[0].len, at, size = 0;
	int fd, ret;

	if (!cfg->initrd)
		return 0;
	fd = file_open("initrd", cfg->initrd, &size, err);
	if (fd < 0)
		return fd;
	if (end > image->initrd_end)
		end = image->initrd_end;
	at = size <= end ? (end - size) & ~(PAGE - 1) : 0;
	if (at < image->end)
		ret = no_room(cfg, image, size, err);
	else
		ret = file_read(fd, "initrd", cfg->initrd, boot_mem(mem, gpa(at), size), size, err);
	close(fd);
	params->initrd = at;
	params->initrd_len = size;
	return ret;
}

static int load_cmdline(const struct ramet_config *cfg, const struct boot_memory *mem,
	const struct linux_image *image, struct ramet_err *err)
{
	const char *cmdline = cfg->args ? cfg->args : "console=ttyS0";
	size_t len = strlen(cmdline), max = image->cmdline_max;

	if (max > LINUX_CMDLINE_MAX - 1)
		max = LINUX_CMDLINE_MAX - 1;
	if (len > max)
		return err_set(err, -E2BIG,
			"kernel '%s': the command line has %zu bytes, but at most %zu are possible",
			cfg->kernel, len, max);
	memcpy(boot_mem(mem, gpa(LINUX_GPA_CMDLINE), LINUX_CMDLINE_MAX), cmdline, len + 1);
	return 0;
}

static void load_gdt(const struct boot_memory *mem)
{
	static const uint64_t gdt[] = {
		[BOOT_CS / 8] = 0x00af9b000000ffff, /* 64-bit code, execute/read, accessed */
		[BOOT_DS / 8] = 0x00cf93000000ffff, /* flat data, read/write, accessed */
	};

	memcpy(boot_mem(mem, gpa(LINUX_GPA_GDT), sizeof(gdt)), gdt, sizeof(gdt));
}

/*
 * Linux on a hardware-reduced machine without EFI reboots like an old PC: it goes to real mode and
 * jumps to F000:FFF0 (machine_real_restart(), unless reboot= chooses another way). The code here
 * requests the reset.
 */
static void load_reset_vector(const struct boot_memory *mem)
{
	static const uint8_t code[] = {
		0xba, ACPI_PORT_RESET & 0xff, ACPI_PORT_RESET >> 8, /* mov dx, port */
		0xb0, ACPI_RESET_VALUE,				    /* mov al, value */
		0xee,						    /* out dx, al */
		0xfa, 0xf4,					    /* cli; hlt */
	};

	memcpy(boot_mem(mem, gpa(LINUX_GPA_RESET), sizeof(code)), code, sizeof(code));
}

/* Stored in guest memory for boot_linux_vcpu(). This is safe: no guest has run on it yet. */
struct boot_entry {
	uint64_t rip;
	bool pvh;
};

int boot_linux_load(
	const struct ramet_config *cfg, const struct boot_memory *mem, struct ramet_err *err)
{
	struct linux_params params = { 0 };
	struct linux_image image = { 0 };
	void *fdt = boot_mem(mem, gpa(RAMET_GPA_FDT), RAMET_FDT_MAX);
	int ret;

	ret = load_kernel(cfg, mem, &image, err);
	if (!ret)
		ret = load_initrd(cfg, mem, &image, &params, err);
	if (!ret)
		ret = load_cmdline(cfg, mem, &image, err);
	if (ret)
		return ret;
	if (machine_fdt(cfg, mem->ram, fdt, RAMET_FDT_MAX) || boot_tables(mem) ||
		acpi_build(mem, cfg->cpus ? cfg->cpus : 1))
		return err_set(
			err, -ENOSPC, "kernel '%s': no room for the machine's tables", cfg->kernel);
	params.fdt_len = fdt_totalsize(fdt);
	load_gdt(mem);
	load_reset_vector(mem);
	if (image.pvh)
		pvh_params(mem, &params);
	else
		bzimage_params(mem, &params);
	*(struct boot_entry *)boot_mem(mem, gpa(LINUX_GPA_ENTRY), sizeof(struct boot_entry)) =
		(struct boot_entry){ .rip = image.entry, .pvh = image.pvh };
	return 0;
}

/* Sets up vCPU 0. The others wait for its INIT and SIPI, in the state in which KVM made them. */
int boot_linux_vcpu(const struct ramet_config *cfg, const struct boot_memory *mem, unsigned index,
	struct boot_vcpu *vcpu)
{
	const struct boot_entry *entry = boot_mem(mem, gpa(LINUX_GPA_ENTRY), sizeof(*entry));
	struct kvm_sregs *s = &vcpu->sregs;

	vcpu->wait_for_sipi = index > 0;
	if (index)
		return 0;
	s->cs = boot_segment(BOOT_CS, 0xb);
	s->ss = s->ds = s->es = s->fs = s->gs = boot_segment(BOOT_DS, 0x3);
	s->tr = (struct kvm_segment){
		.selector = BOOT_TSS, .limit = 0x67, .type = 0xb, .present = 1
	};
	s->ldt = (struct kvm_segment){ .unusable = 1 };
	s->gdt = (struct kvm_dtable){ .base = LINUX_GPA_GDT, .limit = BOOT_DS + 7 };
	s->idt = (struct kvm_dtable){ 0 };
	vcpu->regs = (struct kvm_regs){ .rip = entry->rip, .rflags = 0x2 };
	if (entry->pvh) {
		s->cr0 = 0x11; /* PE ET */
		s->cr3 = s->cr4 = s->efer = 0;
		vcpu->regs.rbx = LINUX_GPA_PARAMS;
	} else {
		s->cs.l = 1;
		s->cs.db = 0;
		s->cr0 = 0x80050033; /* PG AM WP NE ET MP PE */
		s->cr3 = RAMET_GPA_TABLES;
		s->cr4 = 0x20;	 /* PAE */
		s->efer = 0x500; /* LMA LME */
		vcpu->regs.rsi = LINUX_GPA_PARAMS;
	}
	return 0;
}

int linux_load_image(const void *file, size_t len, const struct boot_memory *mem,
	struct linux_image *image, struct ramet_err *err)
{
	if (len >= 4 && !memcmp(file, "\177ELF", 4))
		return pvh_load(file, len, mem, image, err);
	return bzimage_load(file, len, mem, image, err);
}
