/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "include/ramet/abi.h"
#include "vmm/devices/doorbell.h"

/*
 * The address of a report is staged in two halves. vCPUs that report at once may mix their halves;
 * a guest that cares takes turns, ours end at the first report.
 */
struct doorbell {
	struct device dev;
	_Atomic uint32_t report_lo, report_hi;
	_Atomic uint32_t wall_hi;
	atomic_bool reseeds; /* the guest has promised to, RAMET_DB_RESEED */
};

static struct doorbell *doorbell_of(struct device *dev)
{
	return (struct doorbell *)dev;
}

static uint32_t take_wall_clock(struct doorbell *db)
{
	struct timespec t;
	uint64_t ns;

	clock_gettime(CLOCK_REALTIME, &t);
	ns = (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
	db->wall_hi = (uint32_t)(ns >> 32);
	return (uint32_t)ns;
}

static uint32_t doorbell_read(struct doorbell *db, uint64_t reg)
{
	struct ramet_vm *vm = db->dev.vm;
	uint32_t value;

	switch (reg) {
	case RAMET_DB_CLONE_ID:
		return (uint32_t)vm_id(vm);
	case RAMET_DB_GENERATION:
		return (uint32_t)vm_births(vm);
	case RAMET_DB_GENID0:
	case RAMET_DB_GENID0 + 4:
	case RAMET_DB_GENID0 + 8:
	case RAMET_DB_GENID3:
		memcpy(&value, vm_genid(vm) + (reg - RAMET_DB_GENID0), sizeof(value));
		return value;
	case RAMET_DB_RESEED:
		return !vm_reseed_pending(vm);
	case RAMET_DB_WALL_LO:
		return take_wall_clock(db);
	case RAMET_DB_WALL_HI:
		return db->wall_hi;
	default:
		return UINT32_MAX;
	}
}

static void doorbell_write(struct doorbell *db, struct vcpu *vcpu, uint64_t reg, uint32_t value)
{
	struct ramet_vm *vm = db->dev.vm;

	switch (reg) {
	case RAMET_DB_HEARTBEAT:
		vm_heartbeat(vm, value);
		break;
	case RAMET_DB_EXIT:
		vm_exit(vm, (int)(value & 0xff));
		break;
	case RAMET_DB_SLEEP:
		vcpu_sleep(vcpu, value < RAMET_SLEEP_MAX ? value : RAMET_SLEEP_MAX);
		break;
	case RAMET_DB_PHASE:
		vm_phase(vm, value);
		break;
	case RAMET_DB_REPORT_LO:
		db->report_lo = value;
		break;
	case RAMET_DB_REPORT_HI:
		db->report_hi = value;
		break;
	case RAMET_DB_RESEED:
		db->reseeds = true;
		vm_reseed_done(vm);
		break;
	case RAMET_DB_REPORT:
		vm_report(vm, value, (uint64_t)db->report_hi << 32 | db->report_lo);
		break;
	}
}

static void doorbell_io(struct device *dev, struct vcpu *vcpu, unsigned win, uint64_t addr,
	bool write, void *data, unsigned size)
{
	uint32_t value;

	if (size != sizeof(value)) {
		if (!write)
			memset(data, 0xff, size);
		return;
	}
	if (write) {
		memcpy(&value, data, sizeof(value));
		doorbell_write(doorbell_of(dev), vcpu, addr, value);
	} else {
		value = doorbell_read(doorbell_of(dev), addr);
		memcpy(data, &value, sizeof(value));
	}
}

static int doorbell_clone(const struct device *dev, struct ramet_vm *vm, struct device **out)
{
	const struct doorbell *from = (const struct doorbell *)dev;
	struct device *to;
	int ret = doorbell_new(vm, &to);

	if (ret)
		return ret;
	doorbell_of(to)->report_lo = from->report_lo;
	doorbell_of(to)->report_hi = from->report_hi;
	doorbell_of(to)->wall_hi = from->wall_hi;
	doorbell_of(to)->reseeds = from->reseeds;
	*out = to;
	return 0;
}

static int doorbell_born(struct device *dev)
{
	vm_reseed_owed(dev->vm, doorbell_of(dev)->reseeds);
	return 0;
}

static void doorbell_loaded(struct device *dev)
{
	vm_reseed_start(dev->vm);
}

static void doorbell_free(struct device *dev)
{
	free(doorbell_of(dev));
}

static const struct device_ops doorbell_ops = {
	.name = "doorbell",
	.io = doorbell_io,
	.clone = doorbell_clone,
	.born = doorbell_born,
	.loaded = doorbell_loaded,
	.free = doorbell_free,
};

int doorbell_new(struct ramet_vm *vm, struct device **out)
{
	struct doorbell *db = calloc(1, sizeof(*db));

	if (!db)
		return -ENOMEM;
	db->dev.ops = &doorbell_ops;
	db->dev.vm = vm;
	db->dev.win[0] = (struct device_window){ SPACE_PIO, RAMET_DOORBELL, RAMET_DOORBELL_LEN };
	db->dev.win[1] =
		(struct device_window){ SPACE_MMIO, RAMET_DOORBELL_MMIO, RAMET_DOORBELL_LEN };
	*out = &db->dev;
	return 0;
}
