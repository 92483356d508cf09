// SPDX-License-Identifier: Apache-2.0
/* The VM that boots: its memory, its devices, its image, and the state in which it starts. */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#include "vmm/vm/launch.h"
#include "vmm/base/limits.h"
#include "vmm/boot/boot.h"
#include "vmm/devices/pc.h"
#include "vmm/devices/serial.h"
#include "vmm/kvm/shell-make.h"

static int set_entry(struct ramet_family *f, struct shell *sh, const struct boot_memory *mem)
{
	for (unsigned i = 0; i < f->cfg.cpus; i++) {
		struct kvm_mp_state mp;
		struct boot_vcpu b = { .wait_for_sipi = false };
		int fd = sh->vcpu[i].fd, r = 0;

		if (ioctl(fd, KVM_GET_SREGS, &b.sregs) < 0)
			return -errno;
		if (f->cfg.kernel)
			r = boot_linux_vcpu(&f->cfg, mem, i, &b);
		else
			boot_guest_vcpu(&f->cfg, i, &b);
		if (r)
			return r;
		mp.mp_state = b.wait_for_sipi ? KVM_MP_STATE_UNINITIALIZED : KVM_MP_STATE_RUNNABLE;
		if (ioctl(fd, KVM_SET_MP_STATE, &mp) < 0)
			return -errno;
		if (b.wait_for_sipi)
			continue; /* KVM's initial registers are right for it */
		if (ioctl(fd, KVM_SET_SREGS, &b.sregs) < 0 || ioctl(fd, KVM_SET_REGS, &b.regs) < 0)
			return -errno;
	}
	return 0;
}

static int add_devices(struct ramet_vm *vm, struct ramet_err *err)
{
	const struct ramet_config *cfg = &vm->family->cfg;
	unsigned reseed_ms = cfg->reseed == RAMET_RESEED_OFF ? 0 : cfg->reseed_ms;
	struct device_set *set = &vm->devices;
	int r = serial_new(&vm->port, &set->dev[DEVICE_SERIAL]);

	if (r)
		return err_set(err, r, "cannot make the serial port: %s", strerror(-r));
	set->n++;
	r = doorbell_new(&vm->port, reseed_ms, &set->dev[DEVICE_DOORBELL]);
	if (r)
		return err_set(err, r, "cannot make the doorbell: %s", strerror(-r));
	set->n++;
	if (cfg->kernel) {
		vm->family->virtio_console = linux_console_is_virtio(cfg->args);
		r = linux_devices_new(&vm->port, cfg, &set->dev[DEVICE_LINUX], err);
		set->n += r ? 0 : LINUX_DEVICES;
	}
	return r;
}

static int load(struct ramet_vm *vm, struct ramet_err *err)
{
	struct ramet_family *f = vm->family;
	struct boot_memory mem = { .ram = &f->ram };
	int r;

	for (unsigned i = 0; i < f->ram.n; i++)
		mem.host[i] = view_at(vm->shell->view, f->machine.slot[i].off);
	r = add_devices(vm, err);
	if (!r)
		r = f->cfg.kernel ? boot_linux_load(&f->cfg, &mem, err)
				  : boot_guest_load(&f->cfg, &mem, err);
	if (r)
		return r;
	device_set_attach(&vm->devices);
	r = set_entry(f, vm->shell, &mem);
	return r ? err_set(err, r, "cannot set the entry state of '%s': %s", vm->name, strerror(-r))
		 : 0;
}

/* A VM that boots runs directly on the frames of a generation that is not frozen yet. */
int family_boot(struct ramet_family *f, struct ramet_vm *vm, struct ramet_err *err)
{
	struct mmu_root *root;
	frame_t frame;
	struct shell *sh;
	int r = shell_new(&f->machine, &sh);

	if (r)
		return err_set(err, r, "cannot make a KVM virtual machine: %s%s", strerror(-r),
			limit_hint(r));
	vm->shell = sh;
	r = memory_new_root(&f->memory, &root, &frame);
	if (r)
		return err_set(err, r, "cannot get memory for '%s': %s", vm->name, strerror(-r));
	r = generation_new(&f->generations, root, &vm->birth);
	if (r) {
		memory_put_root(&f->memory, root);
		return err_set(err, r, "out of memory");
	}
	r = view_map(vm->shell->view, ram_off(0), frame, f->ram.size / PAGE_SIZE, true);
	if (r)
		return err_set(err, r, "cannot map the memory of '%s': %s", vm->name, strerror(-r));
	return load(vm, err);
}
