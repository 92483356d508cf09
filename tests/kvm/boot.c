/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The boot loader, the devices and the guests, on the real /dev/kvm but without the rest of the
 * VMM: a VM with one memslot per RAM range and one thread per vCPU. This file has a simple
 * implementation of vmm/devices/port.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "include/ramet/abi.h"
#include "vmm/boot/boot.h"
#include "vmm/devices/doorbell.h"
#include "vmm/devices/serial.h"

struct vcpu {
	struct vm *vm;
	unsigned index;
	int fd;
	struct kvm_run *run;
	pthread_t thread;
};

struct vm {
	struct port port;
	int kvm, fd;
	unsigned cpus;
	struct vcpu vcpu[RAMET_CPUS_MAX];
	size_t run_size;
	struct ram_layout ram;
	struct boot_memory mem;
	struct device *serial, *doorbell;
	atomic_bool stop;
	atomic_uint births;
	atomic_int exit_status;
	atomic_uint phase, beats, counter, report;
	atomic_ulong report_gpa;
	char console[4096];
	size_t console_len;
};

/* vmm/devices/port.h */
static struct vm *vm_of(struct port *port)
{
	return (struct vm *)port;
}

static int vm_irq(struct port *port, unsigned gsi, bool level)
{
	struct kvm_irq_level l = { .irq = gsi, .level = level };

	return ioctl(vm_of(port)->fd, KVM_IRQ_LINE, &l) ? -errno : 0;
}

static void vm_identity(struct port *port, struct identity *out)
{
	*out = (struct identity){ .births = vm_of(port)->births, .genid = "0123456789abcdef" };
}

static void vm_heartbeat(struct port *port, uint32_t counter)
{
	vm_of(port)->counter = counter;
	vm_of(port)->beats++;
}

static void vm_phase(struct port *port, uint32_t phase)
{
	vm_of(port)->phase = phase;
}

static void vm_report(struct port *port, uint32_t code, uint64_t gpa)
{
	vm_of(port)->report_gpa = gpa;
	vm_of(port)->report = code;
}

static void vm_exit(struct port *port, int status)
{
	vm_of(port)->exit_status = status;
	vm_of(port)->stop = true;
}

static void vm_console(struct port *port, const char *buf, size_t len)
{
	struct vm *vm = vm_of(port);

	for (size_t i = 0; i < len && vm->console_len < sizeof(vm->console) - 1; i++)
		vm->console[vm->console_len++] = buf[i];
}

static void vm_sleep(struct port *port, struct vcpu *vcpu, uint32_t us)
{
	usleep(us);
}

static const struct port_ops port_ops = {
	.irq = vm_irq,
	.identity = vm_identity,
	.heartbeat = vm_heartbeat,
	.phase = vm_phase,
	.report = vm_report,
	.exit = vm_exit,
	.console = vm_console,
	.sleep = vm_sleep,
};

static void handle_io(struct vcpu *vcpu)
{
	struct device *devices[] = { vcpu->vm->serial, vcpu->vm->doorbell };
	struct kvm_run *run = vcpu->run;
	uint8_t *data = (uint8_t *)run + run->io.data_offset;

	for (unsigned d = 0; d < 2; d++) {
		uint64_t addr = run->io.port - devices[d]->win[0].base;

		for (unsigned i = 0; addr < devices[d]->win[0].len && i < run->io.count; i++)
			devices[d]->ops->io(devices[d], vcpu, 0, addr, run->io.direction,
				data + i * run->io.size, run->io.size);
	}
}

static void *run_vcpu(void *arg)
{
	struct vcpu *vcpu = arg;

	while (!vcpu->vm->stop) {
		if (ioctl(vcpu->fd, KVM_RUN, 0)) {
			assert_true(errno == EINTR || errno == EAGAIN);
			continue;
		}
		if (vcpu->run->exit_reason == KVM_EXIT_IO) {
			handle_io(vcpu);
			continue;
		}
		fprintf(stderr, "vCPU %u: unexpected exit %u, suberror %u\n", vcpu->index,
			vcpu->run->exit_reason, vcpu->run->internal.suberror);
		vm_exit(&vcpu->vm->port, -2);
	}
	return NULL;
}

static void no_op(int sig)
{
}

static void make_vcpu(struct vm *vm, const struct ramet_config *cfg, unsigned i)
{
	struct kvm_cpuid2 *cpuid = calloc(1, sizeof(*cpuid) + 128 * sizeof(cpuid->entries[0]));
	struct vcpu *vcpu = &vm->vcpu[i];
	struct kvm_mp_state mp = { KVM_MP_STATE_RUNNABLE };
	struct boot_vcpu boot;

	*vcpu = (struct vcpu){ .vm = vm, .index = i };
	vcpu->fd = ioctl(vm->fd, KVM_CREATE_VCPU, i);
	assert_true(vcpu->fd >= 0);
	vcpu->run = mmap(NULL, vm->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
	assert_ptr_not_equal(vcpu->run, MAP_FAILED);
	assert_non_null(cpuid);
	cpuid->nent = 128;
	assert_return_code(ioctl(vm->kvm, KVM_GET_SUPPORTED_CPUID, cpuid), errno);
	assert_return_code(ioctl(vcpu->fd, KVM_SET_CPUID2, cpuid), errno);
	free(cpuid);
	assert_return_code(ioctl(vcpu->fd, KVM_GET_SREGS, &boot.sregs), errno);
	boot_guest_vcpu(cfg, i, &boot);
	assert_return_code(ioctl(vcpu->fd, KVM_SET_SREGS, &boot.sregs), errno);
	assert_return_code(ioctl(vcpu->fd, KVM_SET_REGS, &boot.regs), errno);
	assert_return_code(ioctl(vcpu->fd, KVM_SET_MP_STATE, &mp), errno);
}

static struct vm *launch(const struct ramet_config *cfg)
{
	struct vm *vm = calloc(1, sizeof(*vm));
	struct ramet_err err = { "" };

	assert_non_null(vm);
	vm->port.ops = &port_ops;
	vm->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	vm->fd = ioctl(vm->kvm, KVM_CREATE_VM, 0);
	assert_true(vm->fd >= 0);
	assert_return_code(ioctl(vm->fd, KVM_CREATE_IRQCHIP, 0), errno);
	vm->run_size = (size_t)ioctl(vm->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	vm->exit_status = -1;
	vm->births = 1;
	ram_layout_init(&vm->ram, cfg->memory);
	vm->mem.ram = &vm->ram;
	for (unsigned i = 0; i < vm->ram.n; i++) {
		struct kvm_userspace_memory_region slot = { .slot = i,
			.guest_phys_addr = vm->ram.r[i].gpa.v,
			.memory_size = vm->ram.r[i].len };

		vm->mem.host[i] = mmap(NULL, slot.memory_size, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		assert_ptr_not_equal(vm->mem.host[i], MAP_FAILED);
		slot.userspace_addr = (uintptr_t)vm->mem.host[i];
		assert_return_code(ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &slot), errno);
	}
	assert_int_equal(boot_guest_load(cfg, &vm->mem, &err), 0);
	assert_int_equal(serial_new(&vm->port, &vm->serial), 0);
	assert_int_equal(doorbell_new(&vm->port, 0, &vm->doorbell), 0);
	vm->cpus = cfg->cpus;
	for (unsigned i = 0; i < vm->cpus; i++)
		make_vcpu(vm, cfg, i);
	for (unsigned i = 0; i < vm->cpus; i++)
		assert_int_equal(
			pthread_create(&vm->vcpu[i].thread, NULL, run_vcpu, &vm->vcpu[i]), 0);
	return vm;
}

/* Ends the VM, if it has not ended yet, and returns its exit status. */
static int finish(struct vm *vm)
{
	int status;

	vm->stop = true;
	for (unsigned i = 0; i < vm->cpus; i++) {
		while (pthread_tryjoin_np(vm->vcpu[i].thread, NULL)) {
			pthread_kill(vm->vcpu[i].thread, SIGUSR1);
			usleep(1000);
		}
		munmap(vm->vcpu[i].run, vm->run_size);
		close(vm->vcpu[i].fd);
	}
	vm->serial->ops->free(vm->serial);
	vm->doorbell->ops->free(vm->doorbell);
	for (unsigned i = 0; i < vm->ram.n; i++)
		munmap(vm->mem.host[i], vm->ram.r[i].len);
	close(vm->fd);
	close(vm->kvm);
	status = vm->exit_status;
	free(vm);
	return status;
}

/* Waits until the guest has sent n heartbeats or has stopped. */
static void wait_beats(struct vm *vm, unsigned n)
{
	while (vm->beats < n && !vm->stop)
		usleep(1000);
}

static void test_count(void **state)
{
	struct ramet_config cfg = { .guest = "count", .memory = 16 << 20, .cpus = 1 };
	struct vm *vm = launch(&cfg);

	wait_beats(vm, 100);
	assert_int_equal(vm->exit_status, -1);
	assert_int_equal(vm->phase, RAMET_PHASE_READY);
	assert_string_equal(vm->console, "count: hello\n");
	assert_true(vm->counter >= 100);
	assert_int_equal(finish(vm), -1);
}

static void test_usage(void **state)
{
	struct ramet_config cfg = {
		.guest = "count", .memory = 16 << 20, .cpus = 2, .args = "rate=5 colour=blue"
	};
	struct vm *vm = launch(&cfg);

	wait_beats(vm, 1);
	assert_string_equal(vm->console, "unknown argument colour=blue\n");
	assert_int_equal(finish(vm), RAMET_EXIT_USAGE);
	cfg.args = "rate=5x";
	vm = launch(&cfg);
	wait_beats(vm, 1);
	assert_string_equal(vm->console, "not a number 5x\n");
	assert_int_equal(finish(vm), RAMET_EXIT_USAGE);
}

static void test_dirty(void **state)
{
	struct ramet_config cfg = {
		.guest = "dirty", .memory = 64 << 20, .cpus = 1, .args = "dirty=32M rate=max"
	};
	struct vm *vm = launch(&cfg);
	unsigned dirty = 0;

	wait_beats(vm, 10);
	assert_int_equal(vm->phase, RAMET_PHASE_READY);
	vm->stop = true;
	for (uint64_t at = RAMET_GPA_IMAGE; at < cfg.memory; at += 4096)
		dirty += *(uint64_t *)boot_mem(&vm->mem, gpa(at), 8) != 0;
	/* The guest's image uses a few more pages. */
	assert_in_range(dirty, 8192, 8192 + 64);
	assert_int_equal(finish(vm), -1);
}

static void test_verify(void **state)
{
	struct ramet_config cfg = {
		.guest = "verify", .memory = 16 << 20, .cpus = 1, .args = "memory=8M"
	};
	struct vm *vm = launch(&cfg);
	uint64_t *word;

	while (vm->phase != RAMET_PHASE_VERIFIED && !vm->stop)
		usleep(1000);
	assert_int_equal(vm->report, RAMET_REPORT_NONE);

	/* A wrong bit is found after some tries: the guest may be about to overwrite it. */
	word = boot_mem(&vm->mem, gpa(4 << 20), 8);
	while (!vm->stop) {
		*word ^= 1ull << 42;
		for (unsigned beats = vm->beats; vm->beats < beats + 200 && !vm->stop;)
			usleep(1000);
	}
	assert_int_equal(vm->report, RAMET_REPORT_MISMATCH);
	assert_int_equal(vm->report_gpa, 4 << 20);
	assert_non_null(strstr(vm->console, "wrong word at 0000000000400000\n"));
	assert_int_equal(finish(vm), RAMET_EXIT_FAILED);
}

static void test_smp(void **state)
{
	struct ramet_config cfg = { .guest = "smp", .memory = 16 << 20, .cpus = 4 };
	struct vm *vm = launch(&cfg);

	wait_beats(vm, 300);
	assert_int_equal(vm->phase, RAMET_PHASE_READY); /* ticks have come on all vCPUs */
	assert_int_equal(vm->report, RAMET_REPORT_NONE);
	assert_int_equal(finish(vm), -1);
}

/* The guest sees a new birth although nothing was forked: it must find all its memory unchanged. */
static void test_state(void **state)
{
	struct ramet_config cfg = { .guest = "state",
		.memory = 16 << 20,
		.cpus = 2,
		.args = getenv("RAMET_EMULATED") ? "bare=1 watch=0" : "bare=1" };
	struct vm *vm = launch(&cfg);

	while (vm->phase != RAMET_PHASE_READY && !vm->stop)
		usleep(1000);
	for (unsigned birth = 2; birth < 20; birth++) {
		vm->births = birth;
		while (vm->counter != birth && !vm->stop)
			usleep(1000);
		assert_string_equal(vm->console, "");
		assert_int_equal(vm->report, RAMET_REPORT_NONE);
	}
	assert_int_equal(finish(vm), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_count),
		cmocka_unit_test(test_usage),
		cmocka_unit_test(test_dirty),
		cmocka_unit_test(test_verify),
		cmocka_unit_test(test_smp),
		cmocka_unit_test(test_state),
	};

	signal(SIGUSR1, no_op);
	if (access("/dev/kvm", R_OK | W_OK))
		return 77;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
