/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ACPI tables: RSDP -> XSDT -> FADT -> DSDT, and the MADT. Source: ACPI Specification 6.4,
 * sections 5.2.5 (RSDP), 5.2.6 (header), 5.2.8 (XSDT), 5.2.9 (FADT), 5.2.12 (MADT), 4.8.3.7 and 8
 * (sleep control and status registers of hardware-reduced machines).
 */
#include <errno.h>
#include <string.h>

#include "vmm/boot/linux.h"
#include "vmm/dsdt.hex"

#define IOAPIC_BASE 0xfec00000u
#define LAPIC_BASE  0xfee00000u

struct sdt {
	char signature[4];
	uint32_t length;
	uint8_t revision, checksum;
	char oem_id[6], oem_table_id[8];
	uint32_t oem_revision;
	char creator_id[4];
	uint32_t creator_revision;
} __attribute__((packed));

struct rsdp {
	char signature[8];
	uint8_t checksum; /* of the first 20 bytes */
	char oem_id[6];
	uint8_t revision;
	uint32_t rsdt, length;
	uint64_t xsdt;
	uint8_t extended_checksum, reserved[3];
} __attribute__((packed));

/* A generic address; here always one 8-bit port. */
struct gas {
	uint8_t space, bits, offset, access;
	uint64_t address;
} __attribute__((packed));
enum { GAS_PORT = 1, GAS_BYTE = 1 };

struct fadt {
	struct sdt h;
	uint8_t unused1[73];
	uint16_t boot_arch;
	uint8_t unused2;
	uint32_t flags;
	struct gas reset;
	uint8_t reset_value;
	uint16_t arm_boot_arch;
	uint8_t minor;
	uint64_t facs, dsdt;
	uint8_t unused3[96];
	struct gas sleep_control, sleep_status;
	uint64_t hypervisor;
} __attribute__((packed));
_Static_assert(offsetof(struct fadt, boot_arch) == 109, "as in table 5.33");
_Static_assert(offsetof(struct fadt, sleep_control) == 244, "as in table 5.33");
_Static_assert(sizeof(struct fadt) == 276, "revision 6");

enum {
	BOOT_NO_VGA = 1 << 2,
	BOOT_NO_CMOS_RTC = 1 << 5,
	FADT_WBINVD = 1 << 0,
	FADT_CONTROL_POWER_BUTTON = 1 << 4,
	FADT_CONTROL_SLEEP_BUTTON = 1 << 5,
	FADT_RESET_SUPPORTED = 1 << 10,
	FADT_HEADLESS = 1 << 12,
	FADT_HW_REDUCED = 1 << 20,
};

struct madt_lapic {
	uint8_t type, len, uid, apic_id;
	uint32_t flags;
} __attribute__((packed));
struct madt_ioapic {
	uint8_t type, len, id, reserved;
	uint32_t address, gsi_base;
} __attribute__((packed));
enum { MADT_LAPIC = 0, MADT_IOAPIC = 1, MADT_ENABLED = 1 };

struct madt {
	struct sdt h;
	uint32_t lapic_base, flags;
	struct madt_ioapic ioapic;
	struct madt_lapic lapic[RAMET_CPUS_MAX];
} __attribute__((packed));

struct xsdt {
	struct sdt h;
	uint64_t entry[2];
} __attribute__((packed));

/* The tables whose size is fixed, followed by the DSDT. */
struct tables {
	struct rsdp rsdp;
	struct xsdt xsdt __attribute__((aligned(16)));
	struct fadt fadt __attribute__((aligned(16)));
	struct madt madt __attribute__((aligned(16)));
	uint8_t dsdt[] __attribute__((aligned(16)));
};
_Static_assert(sizeof(struct tables) + sizeof(dsdt_aml_code) <= LINUX_ACPI_MAX, "fits");

static uint8_t checksum(const void *data, size_t len)
{
	const uint8_t *p = data;
	uint8_t sum = 0;

	while (len--)
		sum += *p++;
	return (uint8_t)-sum;
}

static struct sdt header(const char *signature, uint8_t revision, size_t len)
{
	struct sdt h = {
		.length = (uint32_t)len,
		.revision = revision,
		.oem_revision = 1,
		.creator_revision = 1,
	};

	memcpy(h.signature, signature, sizeof(h.signature));
	memcpy(h.oem_id, "RAMET ", sizeof(h.oem_id));
	memcpy(h.oem_table_id, "RAMET   ", sizeof(h.oem_table_id));
	memcpy(h.creator_id, "RAMT", sizeof(h.creator_id));
	return h;
}

static void seal(struct sdt *h)
{
	h->checksum = 0;
	h->checksum = checksum(h, h->length);
}

static struct gas port(uint16_t address)
{
	return (struct gas){ .space = GAS_PORT, .bits = 8, .access = GAS_BYTE, .address = address };
}

static void build_fadt(struct fadt *fadt)
{
	*fadt = (struct fadt){
		.h = header("FACP", 6, sizeof(*fadt)),
		.boot_arch = BOOT_NO_VGA | BOOT_NO_CMOS_RTC,
		.flags = FADT_WBINVD | FADT_CONTROL_POWER_BUTTON | FADT_CONTROL_SLEEP_BUTTON |
			 FADT_RESET_SUPPORTED | FADT_HEADLESS | FADT_HW_REDUCED,
		.reset = port(ACPI_PORT_RESET),
		.reset_value = ACPI_RESET_VALUE,
		.minor = 4,
		.dsdt = LINUX_GPA_ACPI + offsetof(struct tables, dsdt),
		.sleep_control = port(ACPI_PORT_SLEEP),
		.sleep_status = port(ACPI_PORT_STATUS),
	};
	seal(&fadt->h);
}

static void build_madt(struct madt *madt, unsigned cpus)
{
	*madt = (struct madt){
		.h = header("APIC", 5, offsetof(struct madt, lapic[cpus])),
		.lapic_base = LAPIC_BASE,
		.ioapic = { MADT_IOAPIC, sizeof(struct madt_ioapic), 0, 0, IOAPIC_BASE, 0 },
	};
	for (unsigned i = 0; i < cpus; i++)
		madt->lapic[i] = (struct madt_lapic){ MADT_LAPIC, sizeof(struct madt_lapic),
			(uint8_t)i, (uint8_t)i, MADT_ENABLED };
	seal(&madt->h);
}

int acpi_build(const struct boot_memory *mem, unsigned cpus)
{
	struct tables *t = boot_mem(mem, gpa(LINUX_GPA_ACPI), LINUX_ACPI_MAX);

	if (!t || cpus > RAMET_CPUS_MAX)
		return -ENOSPC;
	memcpy(t->dsdt, dsdt_aml_code, sizeof(dsdt_aml_code));
	build_fadt(&t->fadt);
	build_madt(&t->madt, cpus);
	t->xsdt = (struct xsdt){
		.h = header("XSDT", 1, sizeof(t->xsdt)),
		.entry = { LINUX_GPA_ACPI + offsetof(struct tables, fadt),
			LINUX_GPA_ACPI + offsetof(struct tables, madt) },
	};
	seal(&t->xsdt.h);
	t->rsdp = (struct rsdp){
		.oem_id = "RAMET ",
		.revision = 2,
		.length = sizeof(t->rsdp),
		.xsdt = LINUX_GPA_ACPI + offsetof(struct tables, xsdt),
	};
	memcpy(t->rsdp.signature, "RSD PTR ", sizeof(t->rsdp.signature));
	t->rsdp.checksum = checksum(&t->rsdp, 20);
	t->rsdp.extended_checksum = checksum(&t->rsdp, sizeof(t->rsdp));
	return 0;
}
