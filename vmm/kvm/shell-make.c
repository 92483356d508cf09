// SPDX-License-Identifier: Apache-2.0
#include "vmm/kvm/shell-make.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define VCPU_STACK_BYTES (128u << 10)

static int make_vm(struct shell *sh)
{
	const struct machine *m = sh->machine;
	struct kvm_pit_config pit = { .flags = KVM_PIT_SPEAKER_DUMMY };
	int r;

	/* Repeat: any signal makes the kernel give up, also SIGSTOP and SIGCONT
	 * (mm_take_all_locks() in mm/mmap.c). */
	do
		sh->vm_fd = ioctl(m->host.fd, KVM_CREATE_VM, 0);
	while (sh->vm_fd < 0 && errno == EINTR);
	if (sh->vm_fd < 0)
		return -errno;
	r = kvm_setup_vm(&m->host, sh->vm_fd);
	if (r)
		return r;
	/* Intel hosts without "unrestricted guest" need these two; other hosts ignore them. */
	if (ioctl(sh->vm_fd, KVM_SET_TSS_ADDR, 0xfffbd000ul) < 0 && errno != EINVAL &&
		errno != ENOTTY)
		return -errno;
	/* Memslots come before the interrupt controllers, so that they wait for no SRCU grace
	 * period. */
	for (unsigned i = 0; i < m->n_slots; i++) {
		struct kvm_userspace_memory_region region = {
			.slot = i,
			.guest_phys_addr = m->slot[i].gpa.v,
			.memory_size = m->slot[i].len,
			.userspace_addr = (uintptr_t)view_at(sh->view, m->slot[i].off),
		};

		if (ioctl(sh->vm_fd, KVM_SET_USER_MEMORY_REGION, &region) < 0)
			return -errno;
	}
	if (ioctl(sh->vm_fd, KVM_CREATE_IRQCHIP, 0) < 0)
		return -errno;
	if (m->pit && ioctl(sh->vm_fd, KVM_CREATE_PIT2, &pit) < 0)
		return -errno;
	return 0;
}

static int make_vcpu(struct shell *sh, unsigned index)
{
	struct machine *m = (struct machine *)sh->machine;
	struct vcpu *vcpu = &sh->vcpu[index];
	/* A vCPU that waits for its SIPI could not warm up. */
	struct kvm_mp_state runnable = { .mp_state = KVM_MP_STATE_RUNNABLE };
	pthread_attr_t attr;
	int r = 0;

	vcpu->fd = ioctl(sh->vm_fd, KVM_CREATE_VCPU, (unsigned long)index);
	if (vcpu->fd < 0)
		return -errno;
	/* Touched now: a vCPU's thread that touches a page of it for the first time needs the lock
	 * of the process's memory map, for which it may wait as long as guests keep the CPUs busy.
	 */
	vcpu->run = mmap(NULL, m->host.run_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
		vcpu->fd, 0);
	if (vcpu->run == MAP_FAILED) {
		vcpu->run = NULL;
		return -errno;
	}
	r = kvm_setup_vcpu(&m->host, vcpu->fd, index, m->cpus);
	if (r)
		return r;
	if (ioctl(vcpu->fd, KVM_SET_MP_STATE, &runnable) < 0)
		return -errno;
	lock_take(&m->lock);
	if (!m->msrs_probed) {
		r = kvm_probe_msrs(&m->host, vcpu->fd);
		m->msrs_probed = !r;
	}
	lock_release(&m->lock);
	if (r)
		return r;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, VCPU_STACK_BYTES);
	r = -pthread_create(&vcpu->thread, &attr, vcpu_thread, vcpu);
	pthread_attr_destroy(&attr);
	vcpu->has_thread = !r;
	return r;
}

int shell_new(struct machine *machine, struct shell **out)
{
	struct shell *sh = calloc(1, sizeof(*sh));
	int r;

	if (!sh)
		return -ENOMEM;
	sh->machine = machine;
	sh->vm_fd = -1;
	for (unsigned i = 0; i < machine->cpus; i++) {
		sh->vcpu[i].shell = sh;
		sh->vcpu[i].index = i;
		sh->vcpu[i].fd = -1;
	}
	r = view_new(&machine->arena, &sh->view);
	if (!r)
		sh->view->owner = sh;
	if (!r)
		r = make_vm(sh);
	for (unsigned i = 0; i < machine->cpus && !r; i++)
		r = make_vcpu(sh, i);
	if (r) {
		shell_free(sh);
		return r;
	}
	*out = sh;
	return 0;
}

void shell_free(struct shell *sh)
{
	if (!sh)
		return;
	assert(sh->state == SHELL_IDLE);
	lock_may_wait_for(WAIT_VCPUS);
	for (unsigned i = 0; i < sh->machine->cpus; i++) {
		struct vcpu *vcpu = &sh->vcpu[i];

		if (vcpu->has_thread) {
			vcpu_quit(vcpu);
			pthread_join(vcpu->thread, NULL);
		}
		if (vcpu->run)
			munmap(vcpu->run, sh->machine->host.run_size);
		if (vcpu->fd >= 0)
			close(vcpu->fd);
	}
	/* Before the VM is closed: this wakes a thread that waits for a page of the view. Otherwise
	 * close() would wait for that thread. */
	view_free(sh->view);
	if (sh->vm_fd >= 0)
		close(sh->vm_fd);
	machine_state_put(sh->has);
	free(sh);
}
