/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <libfdt.h>
#include <stdio.h>

#include "include/ramet/abi.h"
#include "vmm/base/board.h"
#include "vmm/boot/boot.h"

/*
 * The device tree. Bindings: Devicetree Specification 0.4, chapter 3 (memory, cpus, chosen);
 * Linux Documentation/devicetree/bindings for "intel,ce4100-lapic", "intel,ce4100-ioapic" and
 * "ns16550a". Addresses and sizes have two cells each; ports are below an "isa" bus.
 *
 * libfdt's sequential writer does not remember errors. This writer keeps the first error.
 */
#define IOAPIC_BASE 0xfec00000u
#define LAPIC_BASE  0xfee00000u
#define COM1_CLOCK  1843200u
#define ISA_PORTS   0x10000u

enum { PHANDLE_IOAPIC = 1 };
enum { IRQ_EDGE_RISING = 1 };

struct fdt_writer {
	void *fdt;
	int err;
};

static void keep(struct fdt_writer *w, int err)
{
	if (!w->err)
		w->err = err;
}

static void node(struct fdt_writer *w, const char *name)
{
	keep(w, fdt_begin_node(w->fdt, name));
}

static void node_at(struct fdt_writer *w, const char *name, uint64_t unit)
{
	char buf[48];

	snprintf(buf, sizeof(buf), "%s@%llx", name, (unsigned long long)unit);
	node(w, buf);
}

static void end(struct fdt_writer *w)
{
	keep(w, fdt_end_node(w->fdt));
}

static void string(struct fdt_writer *w, const char *name, const char *value)
{
	keep(w, fdt_property_string(w->fdt, name, value));
}

static void cell(struct fdt_writer *w, const char *name, uint32_t value)
{
	keep(w, fdt_property_u32(w->fdt, name, value));
}

static void flag(struct fdt_writer *w, const char *name)
{
	keep(w, fdt_property(w->fdt, name, NULL, 0));
}

static void cells(struct fdt_writer *w, const char *name, const uint32_t *value, unsigned n)
{
	fdt32_t be[8];

	for (unsigned i = 0; i < n; i++)
		be[i] = cpu_to_fdt32(value[i]);
	keep(w, fdt_property(w->fdt, name, be, (int)(n * sizeof(be[0]))));
}

static void reg64(struct fdt_writer *w, uint64_t base, uint64_t len)
{
	cells(w, "reg",
		(uint32_t[]){ (uint32_t)(base >> 32), (uint32_t)base, (uint32_t)(len >> 32),
			(uint32_t)len },
		4);
}

static void cell_sizes(struct fdt_writer *w, uint32_t address, uint32_t size)
{
	cell(w, "#address-cells", address);
	cell(w, "#size-cells", size);
}

static void cpu_nodes(struct fdt_writer *w, unsigned cpus)
{
	node(w, "cpus");
	cell_sizes(w, 1, 0);
	for (unsigned i = 0; i < cpus; i++) {
		node_at(w, "cpu", i);
		string(w, "device_type", "cpu");
		string(w, "compatible", "x86-64");
		cell(w, "reg", i); /* the APIC id */
		end(w);
	}
	end(w);
}

static void memory_nodes(struct fdt_writer *w, const struct ram_layout *ram)
{
	for (unsigned i = 0; i < ram->n; i++) {
		node_at(w, "memory", ram->r[i].gpa.v);
		string(w, "device_type", "memory");
		reg64(w, ram->r[i].gpa.v, ram->r[i].len);
		end(w);
	}
}

static void interrupt_nodes(struct fdt_writer *w)
{
	node_at(w, "interrupt-controller", LAPIC_BASE);
	string(w, "compatible", "intel,ce4100-lapic");
	reg64(w, LAPIC_BASE, 0x1000);
	end(w);
	node_at(w, "interrupt-controller", IOAPIC_BASE);
	string(w, "compatible", "intel,ce4100-ioapic");
	reg64(w, IOAPIC_BASE, 0x1000);
	flag(w, "interrupt-controller");
	cell(w, "#interrupt-cells", 2);
	cell(w, "phandle", PHANDLE_IOAPIC);
	end(w);
}

static void port_nodes(struct fdt_writer *w)
{
	node(w, "isa");
	string(w, "compatible", "isa");
	cell_sizes(w, 2, 1); /* first address cell: 1 = a port */
	cells(w, "ranges", (uint32_t[]){ 1, 0, 0, 0, ISA_PORTS }, 5);
	node(w, "serial@i3f8");
	string(w, "compatible", "ns16550a");
	cells(w, "reg", (uint32_t[]){ 1, COM1_BASE, COM1_LEN }, 3);
	cell(w, "clock-frequency", COM1_CLOCK);
	cell(w, "interrupt-parent", PHANDLE_IOAPIC);
	cells(w, "interrupts", (uint32_t[]){ COM1_GSI, IRQ_EDGE_RISING }, 2);
	end(w);
	node(w, "doorbell@i600");
	string(w, "compatible", "ramet,doorbell");
	cells(w, "reg", (uint32_t[]){ 1, RAMET_DOORBELL, RAMET_DOORBELL_LEN }, 3);
	end(w);
	end(w);
}

int machine_fdt(
	const struct ramet_config *cfg, const struct ram_layout *ram, void *fdt, size_t size)
{
	struct fdt_writer w = { .fdt = fdt };

	keep(&w, fdt_create(fdt, (int)size));
	keep(&w, fdt_finish_reservemap(fdt));
	node(&w, "");
	string(&w, "compatible", "ramet,machine");
	string(&w, "model", "ramet");
	cell_sizes(&w, 2, 2);
	node(&w, "chosen");
	string(&w, "bootargs", cfg->args ? cfg->args : "");
	string(&w, "stdout-path", "/isa/serial@i3f8");
	end(&w);
	cpu_nodes(&w, cfg->cpus ? cfg->cpus : 1);
	memory_nodes(&w, ram);
	interrupt_nodes(&w);
	port_nodes(&w);
	end(&w);
	keep(&w, fdt_finish(fdt));
	return w.err ? -ENOSPC : 0;
}
