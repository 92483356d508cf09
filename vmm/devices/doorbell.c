/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "vmm/devices/doorbell.h"
#include "include/ramet/abi.h"
#include "vmm/base/clock.h"

/*
 * The address of a report is written in two halves. If several vCPUs report at the same time, their
 * halves may be mixed. A guest can prevent that with a lock; the built-in guests end at the first
 * report.
 */
struct doorbell {
	struct device dev;
	_Atomic uint32_t report_lo, report_hi;
	_Atomic uint32_t wall_hi;
	unsigned reseed_ms;
	atomic_bool promised;	       /* the guest has promised to reseed after each birth */
	_Atomic uint64_t reseed_by_ns; /* deadline in this birth; 0: done; or ANY_TIME */
};

#define ANY_TIME UINT64_MAX /* the deadline is not set yet: the VM does not run */

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
	struct identity who;
	uint32_t value;

	db->dev.port->ops->identity(db->dev.port, &who);
	switch (reg) {
	case RAMET_DB_CLONE_ID:
		return (uint32_t)who.id;
	case RAMET_DB_GENERATION:
		return (uint32_t)who.births;
	case RAMET_DB_GENID0:
	case RAMET_DB_GENID0 + 4:
	case RAMET_DB_GENID0 + 8:
	case RAMET_DB_GENID3:
		memcpy(&value, who.genid + (reg - RAMET_DB_GENID0), sizeof(value));
		return value;
	case RAMET_DB_RESEED:
		return !atomic_load(&db->reseed_by_ns);
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
	struct port *port = db->dev.port;

	switch (reg) {
	case RAMET_DB_HEARTBEAT:
		port->ops->heartbeat(port, value);
		break;
	case RAMET_DB_EXIT:
		port_exit(port, (int)(value & 0xff));
		break;
	case RAMET_DB_SLEEP:
		port->ops->sleep(port, vcpu, value < RAMET_SLEEP_MAX ? value : RAMET_SLEEP_MAX);
		break;
	case RAMET_DB_PHASE:
		port->ops->phase(port, value);
		break;
	case RAMET_DB_REPORT_LO:
		db->report_lo = value;
		break;
	case RAMET_DB_REPORT_HI:
		db->report_hi = value;
		break;
	case RAMET_DB_RESEED:
		atomic_store(&db->promised, true);
		atomic_store(&db->reseed_by_ns, 0);
		break;
	case RAMET_DB_REPORT:
		port->ops->report(port, value, (uint64_t)db->report_hi << 32 | db->report_lo);
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

static int doorbell_clone(const struct device *dev, struct port *port, struct device **out)
{
	const struct doorbell *from = (const struct doorbell *)dev;
	struct device *to;
	int ret = doorbell_new(port, from->reseed_ms, &to);

	if (ret)
		return ret;
	doorbell_of(to)->report_lo = from->report_lo;
	doorbell_of(to)->report_hi = from->report_hi;
	doorbell_of(to)->wall_hi = from->wall_hi;
	atomic_store(&doorbell_of(to)->promised, atomic_load(&from->promised));
	*out = to;
	return 0;
}

static int doorbell_born(struct device *dev)
{
	struct doorbell *db = doorbell_of(dev);
	bool owed = atomic_load(&db->promised) && db->reseed_ms;

	atomic_store(&db->reseed_by_ns, owed ? ANY_TIME : 0);
	return 0;
}

bool doorbell_promised(const struct device *dev)
{
	return atomic_load(&((const struct doorbell *)dev)->promised);
}

void doorbell_reseed_start(struct device *dev)
{
	struct doorbell *db = doorbell_of(dev);
	uint64_t by = atomic_load(&db->reseed_by_ns);

	/* Compare and exchange, since a vCPU may reseed at this moment. */
	if (by)
		atomic_compare_exchange_strong(
			&db->reseed_by_ns, &by, now_ns() + db->reseed_ms * 1000000ull);
}

bool doorbell_reseed_late(const struct device *dev)
{
	const struct doorbell *db = (const struct doorbell *)dev;
	uint64_t by = atomic_load_explicit(&db->reseed_by_ns, memory_order_relaxed);

	return by && by != ANY_TIME && now_ns() > by;
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
	.loaded = doorbell_reseed_start,
	.free = doorbell_free,
};

int doorbell_new(struct port *port, unsigned reseed_ms, struct device **out)
{
	struct doorbell *db = calloc(1, sizeof(*db));

	if (!db)
		return -ENOMEM;
	db->dev.ops = &doorbell_ops;
	db->dev.port = port;
	db->reseed_ms = reseed_ms;
	db->dev.win[0] = (struct device_window){ SPACE_PIO, RAMET_DOORBELL, RAMET_DOORBELL_LEN };
	db->dev.win[1] =
		(struct device_window){ SPACE_MMIO, RAMET_DOORBELL_MMIO, RAMET_DOORBELL_LEN };
	*out = &db->dev;
	return 0;
}
