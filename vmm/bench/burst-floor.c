/* SPDX-License-Identifier: Apache-2.0 */
/* The baseline of "ramet bench burst": VMs that are made without ramet, and do not run. */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/base/clock.h"
#include "vmm/base/limits.h"
#include "vmm/bench/burst.h"
#include "vmm/cli/command.h"

#define CPUID_MAX 256u

/* What all VMs share: the frozen guest's memory and registers. */
struct frozen {
	int kvm, memory;
	uint64_t bytes;
	size_t run_size;
	struct kvm_cpuid2 *cpuid;
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_fpu fpu;
};

/* Makes a VM, which stays until the process ends. Returns its vCPU, or -errno. */
static int make_vm(const struct frozen *f)
{
	struct kvm_userspace_memory_region region = { .memory_size = f->bytes };
	void *ram = mmap(
		NULL, f->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, f->memory, 0);
	int vm, vcpu;

	if (ram == MAP_FAILED)
		return -errno;
	do
		vm = ioctl(f->kvm, KVM_CREATE_VM, 0);
	while (vm < 0 && errno == EINTR);
	region.userspace_addr = (uintptr_t)ram;
	if (vm < 0 || ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region) ||
		ioctl(vm, KVM_CREATE_IRQCHIP, 0))
		return -errno;
	vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
	if (vcpu < 0 || ioctl(vcpu, KVM_SET_CPUID2, f->cpuid) ||
		mmap(NULL, f->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0) == MAP_FAILED)
		return -errno;
	return vcpu;
}

static int freeze(struct frozen *f, uint64_t bytes)
{
	const char *device = getenv("RAMET_KVM_DEVICE");
	int vcpu;

	*f = (struct frozen){ .bytes = bytes };
	f->kvm = open(device ? device : "/dev/kvm", O_RDWR | O_CLOEXEC);
	f->memory = memfd_create("frozen", MFD_CLOEXEC);
	f->cpuid = calloc(1, sizeof(*f->cpuid) + CPUID_MAX * sizeof(f->cpuid->entries[0]));
	if (f->kvm < 0 || f->memory < 0 || !f->cpuid || ftruncate(f->memory, (off_t)bytes))
		return -errno;
	f->run_size = (size_t)ioctl(f->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	f->cpuid->nent = CPUID_MAX;
	if (ioctl(f->kvm, KVM_GET_SUPPORTED_CPUID, f->cpuid))
		return -errno;
	vcpu = make_vm(f);
	if (vcpu < 0)
		return vcpu;
	if (ioctl(vcpu, KVM_GET_SREGS, &f->sregs) || ioctl(vcpu, KVM_GET_REGS, &f->regs) ||
		ioctl(vcpu, KVM_GET_FPU, &f->fpu))
		return -errno;
	return 0;
}

static int clone_vm(struct frozen *f)
{
	int vcpu = make_vm(f);

	if (vcpu < 0)
		return vcpu;
	if (ioctl(vcpu, KVM_SET_SREGS, &f->sregs) || ioctl(vcpu, KVM_SET_REGS, &f->regs) ||
		ioctl(vcpu, KVM_SET_FPU, &f->fpu))
		return -errno;
	return 0;
}

/* In a process of its own, which ends with all its VMs. Writes the time, or -errno. */
static int64_t measure(const struct burst_options *o)
{
	struct frozen f;
	uint64_t start;
	int r = freeze(&f, o->memory);

	start = now_ns();
	for (unsigned i = 0; i < o->count && !r; i++)
		r = clone_vm(&f);
	return r ? r : (int64_t)(now_ns() - start);
}

int burst_floor(const struct burst_options *o, uint64_t *ns)
{
	int64_t took = -EIO;
	int fd[2];
	pid_t pid;

	if (pipe2(fd, O_CLOEXEC))
		return complain("cannot make a pipe: %s", strerror(errno));
	pid = fork();
	if (pid == 0) {
		took = measure(o);
		_exit(write(fd[1], &took, sizeof(took)) != sizeof(took));
	}
	close(fd[1]);
	if (pid > 0 && read(fd[0], &took, sizeof(took)) != sizeof(took))
		took = -EIO;
	close(fd[0]);
	if (pid > 0)
		waitpid(pid, NULL, 0);
	if (took < 0)
		return complain("making %u VMs without ramet: %s%s", o->count, strerror((int)-took),
			limit_hint((int)took));
	*ns = (uint64_t)took;
	return EXIT_OK;
}
