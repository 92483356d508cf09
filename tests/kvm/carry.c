/* SPDX-License-Identifier: Apache-2.0 */
/*
 * State that vmm/kvm/state.c carries from one vCPU to another, but that no guest can hold for long:
 * pending events, PAE paging's pointers, the TLB. Also KVMs that behave in an unexpected way.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/kvm/common.h"
#include "vmm/kvm/state.h"

#define MEMORY_BYTES 0x10000u
#define CODE	     0x8000u
#define PDPT	     0x1000u
#define CR0_PE	     1u
#define CR0_PG	     (1u << 31)
#define CR4_PAE	     (1u << 5)
#define DB_VECTOR    1
#define DR6_BS	     0x4000u

struct vm {
	int fd, vcpu;
	struct kvm_run *run;
	uint8_t *memory;
};

static struct kvm_host host;

/* A false result of KVM for one request. */
static struct {
	unsigned long request;
	int answer;
	unsigned n_msrs;
} lie;

int __real_ioctl(int fd, unsigned long request, void *arg);
int __wrap_ioctl(int fd, unsigned long request, void *arg);

int __wrap_ioctl(int fd, unsigned long request, void *arg)
{
	struct kvm_msr_list *list = arg;

	if (request != lie.request)
		return __real_ioctl(fd, request, arg);
	for (unsigned i = 0; i < lie.n_msrs; i++)
		list->indices[i] = 0x10000 + i;
	if (lie.n_msrs)
		list->nmsrs = lie.n_msrs;
	return lie.answer;
}

static void vm_open(struct vm *vm)
{
	struct kvm_userspace_memory_region region = { .memory_size = MEMORY_BYTES };

	vm->memory =
		mmap(NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(vm->memory, MAP_FAILED);
	region.userspace_addr = (uintptr_t)vm->memory;
	vm->fd = ioctl(host.fd, KVM_CREATE_VM, 0);
	assert_true(vm->fd >= 0);
	assert_int_equal(kvm_setup_vm(&host, vm->fd), 0);
	assert_int_equal(ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region), 0);
	assert_int_equal(ioctl(vm->fd, KVM_CREATE_IRQCHIP, 0), 0);
	vm->vcpu = ioctl(vm->fd, KVM_CREATE_VCPU, 0);
	assert_true(vm->vcpu >= 0);
	vm->run = mmap(NULL, host.run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vm->vcpu, 0);
	assert_ptr_not_equal(vm->run, MAP_FAILED);
	assert_int_equal(kvm_setup_vcpu(&host, vm->vcpu, 0, 1), 0);
	assert_int_equal(kvm_probe_msrs(&host, vm->vcpu), 0);
}

static void vm_close(struct vm *vm)
{
	munmap(vm->run, host.run_size);
	close(vm->vcpu);
	close(vm->fd);
	munmap(vm->memory, MEMORY_BYTES);
}

static struct machine_state *save(struct vm *vm)
{
	struct machine_state *s = machine_state_new(&host, 1, false);

	assert_non_null(s);
	assert_int_equal(vcpu_save(&host, vm->vcpu, vm->run, &s->vcpu[0]), 0);
	assert_int_equal(machine_save(&host, vm->fd, s), 0);
	return s;
}

static void load(struct vm *vm, const struct machine_state *s, const struct machine_state *has)
{
	assert_int_equal(machine_load(&host, vm->fd, s), 0);
	assert_int_equal(
		vcpu_load(&host, vm->vcpu, vm->run, &s->vcpu[0], has ? &has->vcpu[0] : NULL), 0);
	assert_int_equal(vcpu_flush(vm->vcpu, vm->run), 0);
}

/* ---- tests ---- */

static int set_up(void **state)
{
	struct ramet_err err = { "" };

	assert_ok(kvm_host_open(&host, &err), &err);
	return 0;
}

static int tear_down(void **state)
{
	kvm_host_close(&host);
	return 0;
}

/* A pending exception with its payload and a triple fault are carried; those of the shell go. */
static void test_events(void **state)
{
	struct kvm_vcpu_events events = {
		.flags = KVM_VCPUEVENT_VALID_PAYLOAD | KVM_VCPUEVENT_VALID_TRIPLE_FAULT,
		.exception = { .pending = 1, .nr = DB_VECTOR },
		.exception_has_payload = 1,
		.exception_payload = DR6_BS,
		.triple_fault.pending = 1,
	};
	struct machine_state *quiet, *busy;
	struct vm from, to;

	if (!host.exception_payload || !host.triple_fault)
		skip();
	vm_open(&from);
	vm_open(&to);
	quiet = save(&from);
	assert_int_equal(ioctl(from.vcpu, KVM_SET_VCPU_EVENTS, &events), 0);
	busy = save(&from);
	load(&to, busy, NULL);
	assert_int_equal(ioctl(to.vcpu, KVM_GET_VCPU_EVENTS, &events), 0);
	assert_int_equal(events.exception.pending, 1);
	assert_int_equal(events.exception.injected, 0);
	assert_int_equal(events.exception.nr, DB_VECTOR);
	assert_int_equal(events.exception_has_payload, 1);
	assert_int_equal(events.exception_payload, DR6_BS);
	assert_int_equal(events.triple_fault.pending, 1);
	load(&to, quiet, NULL);
	assert_int_equal(ioctl(to.vcpu, KVM_GET_VCPU_EVENTS, &events), 0);
	assert_int_equal(events.exception.pending | events.exception.injected, 0);
	assert_int_equal(events.triple_fault.pending, 0);
	machine_state_put(quiet);
	machine_state_put(busy);
	vm_close(&from);
	vm_close(&to);
}

/* With PAE paging the processor has four entries, even if memory has changed since. */
static void test_pae(void **state)
{
	static const uint64_t loaded[4] = { 0x2001, 0x3001, 0x4001, 0x5001 };
	static const uint64_t later[4] = { 0x6001, 0x6001, 0x6001, 0x6001 };
	struct kvm_sregs2 sregs2;
	struct kvm_sregs sregs;
	struct machine_state *s;
	struct vm from, to;

	if (!host.sregs2)
		skip();
	vm_open(&from);
	vm_open(&to);
	memcpy(from.memory + PDPT, loaded, sizeof(loaded));
	assert_int_equal(ioctl(from.vcpu, KVM_GET_SREGS, &sregs), 0);
	sregs.cr0 |= CR0_PE | CR0_PG;
	sregs.cr4 |= CR4_PAE;
	sregs.cr3 = PDPT;
	assert_int_equal(ioctl(from.vcpu, KVM_SET_SREGS, &sregs), 0);
	memcpy(from.memory + PDPT, later, sizeof(later));
	memcpy(to.memory + PDPT, later, sizeof(later));
	s = save(&from);
	load(&to, s, NULL);
	assert_int_equal(ioctl(to.vcpu, KVM_GET_SREGS2, &sregs2), 0);
	assert_true(sregs2.flags & KVM_SREGS2_FLAGS_PDPTRS_VALID);
	assert_memory_equal(sregs2.pdptrs, loaded, sizeof(loaded));
	assert_int_equal(sregs2.cr3, PDPT);
	machine_state_put(s);
	vm_close(&from);
	vm_close(&to);
}

/* One of a vCPU's counters: api.rst, 4.133 KVM_GET_STATS_FD. */
static uint64_t counter(const struct vm *vm, const char *name)
{
	int fd = ioctl(vm->vcpu, KVM_GET_STATS_FD, NULL);
	struct kvm_stats_header head;
	uint64_t value = 0;
	bool found = false;

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &head, sizeof(head), 0), sizeof(head));
	for (unsigned i = 0; i < head.num_desc && !found; i++) {
		size_t size = sizeof(struct kvm_stats_desc) + head.name_size;
		struct kvm_stats_desc *d = malloc(size);

		assert_non_null(d);
		assert_int_equal(pread(fd, d, size, (off_t)(head.desc_offset + i * size)), size);
		found = !strcmp(d->name, name);
		if (found)
			assert_int_equal(pread(fd, &value, sizeof(value),
						 (off_t)(head.data_offset + d->offset)),
				sizeof(value));
		free(d);
	}
	close(fd);
	assert_true(found);
	return value;
}

static void run_to_exit(struct vm *vm)
{
	vm->run->immediate_exit = 0;
	assert_int_equal(ioctl(vm->vcpu, KVM_RUN, 0), 0);
	assert_int_equal(vm->run->exit_reason, KVM_EXIT_IO);
	assert_int_equal(vcpu_flush(vm->vcpu, vm->run), 0);
}

/* A vCPU's TLB is stale when its memory has been put back meanwhile. */
static void test_flush(void **state)
{
	static const uint8_t code[] = { 0xe6, 0x80, 0xeb, 0xfc }; /* 1: out %al, $0x80; jmp 1b */
	struct kvm_regs regs = { .rip = CODE, .rflags = 2 };
	struct kvm_sregs sregs;
	struct machine_state *s;
	uint64_t before;
	struct vm vm;

	if (ioctl(host.fd, KVM_CHECK_EXTENSION, KVM_CAP_BINARY_STATS_FD) <= 0)
		skip();
	vm_open(&vm);
	memcpy(vm.memory + CODE, code, sizeof(code));
	assert_int_equal(ioctl(vm.vcpu, KVM_GET_SREGS, &sregs), 0);
	sregs.cs.base = sregs.cs.selector = 0;
	assert_int_equal(ioctl(vm.vcpu, KVM_SET_SREGS, &sregs), 0);
	assert_int_equal(ioctl(vm.vcpu, KVM_SET_REGS, &regs), 0);
	for (unsigned i = 0; i < 3; i++)
		run_to_exit(&vm);
	s = save(&vm);
	before = counter(&vm, "tlb_flush");
	load(&vm, s, NULL);
	run_to_exit(&vm);
	assert_true(counter(&vm, "tlb_flush") > before);
	machine_state_put(s);
	vm_close(&vm);
}

/* If KVM refuses an MSR, that is an error, and the next state is loaded completely. */
static void test_refused(void **state)
{
	struct machine_state *s;
	struct vm vm;
	uint32_t msr;

	vm_open(&vm);
	s = save(&vm);
	assert_true(s->vcpu[0].msrs->nmsrs > 2);
	msr = s->vcpu[0].msrs->entries[1].index;
	s->vcpu[0].msrs->entries[1].index = 0xdeadbeef;
	assert_int_equal(vcpu_load(&host, vm.vcpu, vm.run, &s->vcpu[0], NULL), -EIO);
	assert_int_equal(vcpu_preload(&host, vm.vcpu, &s->vcpu[0]), -EIO);
	s->vcpu[0].msrs->entries[1].index = msr;
	load(&vm, s, NULL);
	machine_state_put(s);
	vm_close(&vm);
}

static void test_strange_kvm(void **state)
{
	struct ramet_err err = { "" };
	struct kvm_host h;

	lie.request = KVM_GET_MSR_INDEX_LIST;
	lie.n_msrs = 300;
	assert_int_equal(kvm_host_open(&h, &err), -E2BIG);
	assert_non_null(strstr(err.msg, "model-specific registers"));
	lie.n_msrs = 0;
	lie.request = KVM_GET_VCPU_MMAP_SIZE;
	assert_int_equal(kvm_host_open(&h, &err), -ENOTSUP);
	assert_non_null(strstr(err.msg, "shared area"));
	lie.request = 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_events, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_pae, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_flush, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_refused, set_up, tear_down),
		cmocka_unit_test(test_strange_kvm),
	};

	return kvm_run_tests(tests);
}
