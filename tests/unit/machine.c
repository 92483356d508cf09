/* SPDX-License-Identifier: Apache-2.0 */
/* RAM layout, device tree, boot page tables and entry state, from 16 MiB to 64 GiB. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <cmocka.h>
#include <libfdt.h>

#include "guest/guests.h"
#include "include/ramet/abi.h"
#include "vmm/boot/boot.h"

#define GIB (1ull << 30)

static const uint64_t sizes[] = { 16 << 20, 62 << 20, 3 * GIB - (2 << 20), 3 * GIB,
	3 * GIB + (2 << 20), 4 * GIB, 64 * GIB };
#define N_SIZES (sizeof(sizes) / sizeof(sizes[0]))

struct machine {
	struct ram_layout ram;
	struct boot_memory mem;
};

static void machine_make(struct machine *m, uint64_t size)
{
	*m = (struct machine){ .mem.ram = &m->ram };
	ram_layout_init(&m->ram, size);
	for (unsigned i = 0; i < m->ram.n; i++) {
		m->mem.host[i] = mmap(NULL, m->ram.r[i].len, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		assert_ptr_not_equal(m->mem.host[i], MAP_FAILED);
	}
}

static void machine_unmake(struct machine *m)
{
	for (unsigned i = 0; i < m->ram.n; i++)
		munmap(m->mem.host[i], m->ram.r[i].len);
}

static void test_layout(void **state)
{
	for (unsigned i = 0; i < N_SIZES; i++) {
		struct ram_layout ram;

		ram_layout_init(&ram, sizes[i]);
		assert_int_equal(ram.size, sizes[i]);
		assert_int_equal(ram.r[0].gpa.v, 0);
		assert_int_equal(ram.r[1].gpa.v, 4 * GIB);
		assert_int_equal(ram.r[0].len + ram.r[1].len, sizes[i]);
		assert_int_equal(ram.n, sizes[i] > 3 * GIB ? 2 : 1);
		assert_true(ram.r[0].len <= 3 * GIB);
	}
}

static void test_boot_mem(void **state)
{
	const struct {
		uint64_t gpa, len;
		bool ok;
	} cases[] = {
		{ 0, 1, true },
		{ 0, 3 * GIB, true },
		{ 0, 3 * GIB + 1, false },
		{ 3 * GIB - 1, 1, true },
		{ 3 * GIB - 1, 2, false },
		{ 3 * GIB, 1, false },
		{ 4 * GIB - 1, 1, false },
		{ 4 * GIB, GIB, true },
		{ 4 * GIB, GIB + 1, false },
		{ 5 * GIB, 1, false },
		{ UINT64_MAX, 1, false },
		{ 4 * GIB, UINT64_MAX, false },
		{ UINT64_MAX - 7, 16, false },
	};
	struct machine m;

	machine_make(&m, 4 * GIB);
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint8_t *p = boot_mem(&m.mem, gpa(cases[i].gpa), cases[i].len);
		unsigned r = cases[i].gpa >= 4 * GIB;

		assert_ptr_equal(
			p, cases[i].ok ? m.mem.host[r] + (cases[i].gpa - m.ram.r[r].gpa.v) : NULL);
	}
	machine_unmake(&m);
}

/* One cell or two of a property, which must be there. */
static uint64_t cells(const void *fdt, int node, const char *name, unsigned first, unsigned n)
{
	int len;
	const fdt32_t *p = fdt_getprop(fdt, node, name, &len);
	uint64_t v = 0;

	assert_non_null(p);
	assert_true(len >= (int)(4 * (first + n)));
	for (unsigned i = first; i < first + n; i++)
		v = v << 32 | fdt32_to_cpu(p[i]);
	return v;
}

static void check_fdt(const struct machine *m, const void *fdt, unsigned cpus, const char *args)
{
	uint64_t memory = 0;
	unsigned n_cpus = 0;
	int node;

	assert_int_equal(fdt_check_full(fdt, RAMET_FDT_MAX), 0);
	assert_int_equal(fdt_node_check_compatible(fdt, 0, "ramet,machine"), 0);
	node = -1;
	while ((node = fdt_node_offset_by_prop_value(
			fdt, node, "device_type", "memory", sizeof("memory"))) >= 0) {
		assert_non_null(boot_mem(&m->mem, gpa(cells(fdt, node, "reg", 0, 2)),
			cells(fdt, node, "reg", 2, 2)));
		memory += cells(fdt, node, "reg", 2, 2);
	}
	assert_int_equal(memory, m->ram.size);
	fdt_for_each_subnode(node, fdt, fdt_path_offset(fdt, "/cpus"))
		assert_int_equal(cells(fdt, node, "reg", 0, 1), n_cpus++);
	assert_int_equal(n_cpus, cpus);
	node = fdt_path_offset(fdt, "/chosen");
	assert_string_equal(fdt_getprop(fdt, node, "bootargs", NULL), args);
	node = fdt_path_offset(fdt, fdt_getprop(fdt, node, "stdout-path", NULL));
	assert_int_equal(fdt_node_check_compatible(fdt, node, "ns16550a"), 0);
	assert_int_equal(cells(fdt, node, "reg", 1, 1), 0x3f8);
	assert_int_equal(cells(fdt, node, "interrupts", 0, 1), 4);
	node = fdt_node_offset_by_phandle(
		fdt, (uint32_t)cells(fdt, node, "interrupt-parent", 0, 1));
	assert_int_equal(cells(fdt, node, "reg", 0, 2), 0xfec00000);
	node = fdt_node_offset_by_compatible(fdt, -1, "ramet,doorbell");
	assert_int_equal(cells(fdt, node, "reg", 1, 1), RAMET_DOORBELL);
}

static void test_fdt(void **state)
{
	for (unsigned i = 0; i < N_SIZES; i++) {
		unsigned cpus = 1 + i % RAMET_CPUS_MAX;
		struct ramet_config cfg = { .cpus = cpus, .args = i & 1 ? "rate=7 x=y" : NULL };
		uint64_t fdt[RAMET_FDT_MAX / 8];
		struct machine m;

		machine_make(&m, sizes[i]);
		assert_int_equal(machine_fdt(&cfg, &m.ram, fdt, sizeof(fdt)), 0);
		check_fdt(&m, fdt, cpus, cfg.args ? cfg.args : "");
		for (size_t small = 0; small < fdt_totalsize(fdt); small += 60)
			assert_int_equal(
				machine_fdt(&cfg, &m.ram, (uint64_t[512]){ 0 }, small), -ENOSPC);
		machine_unmake(&m);
	}
}

/* The address to which the tables at RAMET_GPA_TABLES map `va` for a CPU in 64-bit mode. */
static bool walk(const struct boot_memory *mem, uint64_t va, uint64_t *to, uint64_t *attr)
{
	uint64_t table = RAMET_GPA_TABLES;

	*attr = 7;
	for (int level = 4; level > 1; level--) {
		unsigned shift = 12 + 9 * (unsigned)(level - 1);
		const uint64_t *e = boot_mem(mem, gpa(table + (va >> shift & 511) * 8), 8);

		assert_non_null(e);
		if (!(*e & 1))
			return false;
		*attr = (*e & ~7ull & 0xfff) | (*attr & *e & 7);
		table = *e & 0xffffffffff000;
		if (*e & 0x80) {
			assert_int_equal(level, 2);
			assert_int_equal(table & ((1 << 21) - 1), 0);
			*to = table | (va & ((1 << 21) - 1));
			return true;
		}
	}
	fail();
	return false;
}

static void test_tables(void **state)
{
	for (unsigned i = 0; i < N_SIZES; i++) {
		struct ramet_config cfg = { .guest = "count", .cpus = 1 };
		uint64_t to, attr;
		struct machine m;

		machine_make(&m, sizes[i]);
		assert_int_equal(boot_guest_load(&cfg, &m.mem, NULL), 0);
		for (uint64_t va = 0; va < 70 * GIB; va += 1 << 21) {
			bool lapic = va == 0xfee00000;

			assert_int_equal(walk(&m.mem, va, &to, &attr),
				boot_mem(&m.mem, gpa(va), 1) || lapic);
			if (!boot_mem(&m.mem, gpa(va), 1) && !lapic)
				continue;
			assert_int_equal(to, va);
			assert_int_equal(attr & 7, 7);			 /* P W U */
			assert_int_equal(attr & 0x18, lapic ? 0x18 : 0); /* PWT PCD */
		}
		assert_false(walk(&m.mem, 1ull << 39, &to, &attr));
		machine_unmake(&m);
	}
}

static void test_load(void **state)
{
	struct ramet_config cfg = { .guest = "count", .cpus = 1, .args = "rate=1" };
	struct ramet_err err = { "" };
	char args[RAMET_FDT_MAX];
	struct machine m;

	machine_make(&m, RAMET_MEMORY_MIN);
	for (unsigned i = 0; ramet_guest_name(i); i++) {
		cfg.guest = ramet_guest_name(i);
		assert_non_null(ramet_guest_help(i));
		assert_int_equal(boot_guest_load(&cfg, &m.mem, &err), 0);
	}
	assert_null(ramet_guest_help(100));
	check_fdt(&m, boot_mem(&m.mem, gpa(RAMET_GPA_FDT), 1), 1, "rate=1");
	cfg.guest = "nobody";
	assert_int_equal(boot_guest_load(&cfg, &m.mem, &err), -ENOENT);
	assert_string_equal(err.msg, "no built-in guest is called 'nobody'");
	memset(args, 'a', sizeof(args));
	args[sizeof(args) - 1] = 0;
	cfg = (struct ramet_config){ .guest = "count", .cpus = 1, .args = args };
	assert_int_equal(boot_guest_load(&cfg, &m.mem, &err), -ENOSPC);
	machine_unmake(&m);
	machine_make(&m, 1 << 20);
	cfg.args = NULL;
	assert_int_equal(boot_guest_load(&cfg, &m.mem, &err), -ENOEXEC);
	machine_unmake(&m);
}

static void test_vcpu(void **state)
{
	struct ramet_config cfg = { .guest = "count", .cpus = 8 };

	for (unsigned i = 0; i < 8; i++) {
		struct boot_vcpu v = { .wait_for_sipi = true };

		v.sregs.apic_base = 0xfee00900;
		boot_guest_vcpu(&cfg, i, &v);
		assert_false(v.wait_for_sipi);
		assert_int_equal(v.regs.rsi, i);
		assert_int_equal(v.regs.rdi, RAMET_GPA_FDT);
		assert_int_equal(v.regs.rip, RAMET_GPA_IMAGE);
		assert_int_equal(v.sregs.cr3, RAMET_GPA_TABLES);
		assert_int_equal(v.sregs.cs.l, 1);
		assert_int_equal(v.sregs.cs.dpl, 0);
		assert_int_equal(v.sregs.apic_base, 0xfee00900); /* not ours to change */
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_layout),
		cmocka_unit_test(test_boot_mem),
		cmocka_unit_test(test_fdt),
		cmocka_unit_test(test_tables),
		cmocka_unit_test(test_load),
		cmocka_unit_test(test_vcpu),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
