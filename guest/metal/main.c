// SPDX-License-Identifier: Apache-2.0
#include "guest/metal/cpu.h"
#include "guest/metal/hv.h"
#include "guest/metal/lib.h"
#include "guest/metal/memory.h"
#include "guest/metal/tests.h"
#include "guest/metal/trap.h"
#include "guest/metal/vm.h"

struct start_info { /* the first fields of Xen's hvm_start_info */
	uint32_t magic, version, flags, n_modules;
	uint64_t modules, command_line;
};

void metal_main(const struct start_info *info);

static const struct {
	const char *name;
	void (*run)(void);
} tests[] = {
	{ "share", test_share },
	{ "clones", test_clones },
	{ "validate", test_validate },
	{ "dirty", test_dirty },
	{ "walk", test_walk },
	{ "flush", test_flush },
	{ "smp", test_smp },
	{ "cost", test_cost },
};

static void init(const struct start_info *info)
{
	lib_init(info->command_line ? (const char *)info->command_line : "");
	trap_init();
	hv_init();
	memory_init(cpu_flush);
	cpu_init();
	hv->enable(page_new());
}

void metal_main(const struct start_info *info)
{
	init(info);
	for (unsigned i = 0; i < sizeof tests / sizeof *tests; i++)
		if (arg_is("test", tests[i].name)) {
			print("%s on %s\n", tests[i].name, hv->name);
			tests[i].run();
			print("end: %u ok, %u failed\n", checks_ok, checks_failed);
			machine_end(!checks_failed);
		}
	fatal("test= wants one of share, clones, validate, dirty, walk, flush, smp, cost");
}
