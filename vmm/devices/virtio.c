/* SPDX-License-Identifier: Apache-2.0 */
/* The PCI transport: VIRTIO 1.2, 4.1 (registers: 4.1.4.3; reset and status: 2.1). */
#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/devices/virtio.h"

#define VENDOR_VIRTIO 0x1af4
#define DEVICE_VIRTIO 0x1040 /* + the virtio device id */

/* The layout of BAR 0: one page for each structure. */
enum {
	BAR_COMMON = 0x0000,
	BAR_ISR = 0x1000,
	BAR_DEVICE = 0x2000,
	BAR_NOTIFY = 0x3000,
	BAR_MSIX = 0x4000,
	BAR_PBA = 0x5000,
	BAR_LEN = 0x8000,
	BAR_PAGE = 0x1000,
};
#define NOTIFY_MULTIPLIER 4u
#define VECTOR_NONE	  VIRTIO_MSI_NO_VECTOR

enum { ISR_QUEUE = 1, ISR_CONFIG = 2 };

struct virtio *virtio_of(struct pci_function *fn)
{
	return (struct virtio *)fn;
}

bool virtio_running(const struct virtio *v)
{
	return (v->s.status & (VIRTIO_CONFIG_S_DRIVER_OK | VIRTIO_CONFIG_S_NEEDS_RESET)) ==
	       VIRTIO_CONFIG_S_DRIVER_OK;
}

/* ---- queues ---- */

void virtio_interrupt(struct virtio *v, unsigned queue)
{
	if (!virtq_wants_interrupt(v->fn.port, &v->s.queue[queue]))
		return;
	v->s.isr |= ISR_QUEUE;
	msix_signal(&v->s.msix, v->fn.port, v->s.queue[queue].vector);
}

void virtio_broken(struct virtio *v)
{
	v->s.status |= VIRTIO_CONFIG_S_NEEDS_RESET;
	v->s.isr |= ISR_CONFIG;
	msix_signal(&v->s.msix, v->fn.port, v->s.config_vector);
}

int virtio_serve(struct virtio *v, unsigned queue,
	int64_t (*request)(struct virtio *v, const struct virtq_chain *chain))
{
	struct virtq *q = &v->s.queue[queue];
	struct virtq_chain chain;
	bool pushed = false;
	int ret = 0;

	/* At most one ring of chains: for chains that the driver adds later, it notifies again. */
	for (unsigned n = q->size; n; n--) {
		int64_t written;

		ret = virtq_pop(v->fn.port, q, &chain);
		if (ret <= 0)
			break;
		written = request(v, &chain);
		ret = written < 0 ? (int)written
				  : virtq_push(v->fn.port, q, &chain, (uint32_t)written);
		if (ret)
			break;
		pushed = true;
	}
	if (pushed)
		virtio_interrupt(v, queue);
	return ret;
}

static void notify(struct virtio *v, uint64_t queue)
{
	if (queue < v->ops->queues && virtio_running(v) && v->ops->kick(v, (unsigned)queue))
		virtio_broken(v);
}

/* The queue that the driver has selected, or NULL. */
static struct virtq *selected(struct virtio *v)
{
	return v->s.queue_select < v->ops->queues ? &v->s.queue[v->s.queue_select] : NULL;
}

static void queue_enable(struct virtio *v, struct virtq *q)
{
	/* 2.7: the alignment of each part. */
	if (q->desc.v % 16 || q->avail.v % 2 || q->used.v % 4) {
		virtio_broken(v);
		return;
	}
	q->ready = true;
}

/* ---- common configuration ---- */

static void reset(struct virtio *v)
{
	struct msix msix = v->s.msix;

	msix.pending = 0;
	v->s = (struct virtio_state){ .config_vector = VECTOR_NONE, .msix = msix };
	for (unsigned i = 0; i < v->ops->queues; i++) {
		v->s.queue[i].size = VIRTQ_SIZE_MAX;
		v->s.queue[i].vector = VECTOR_NONE;
	}
}

static void set_status(struct virtio *v, uint8_t status)
{
	const uint64_t must = 1ull << VIRTIO_F_VERSION_1;

	if (!status) {
		reset(v);
		return;
	}
	if ((status & VIRTIO_CONFIG_S_FEATURES_OK) &&
		((v->s.driver_features & ~v->features) || !(v->s.driver_features & must)))
		status &= (uint8_t)~VIRTIO_CONFIG_S_FEATURES_OK;
	/* Only a reset clears NEEDS_RESET. */
	v->s.status = status | (v->s.status & VIRTIO_CONFIG_S_NEEDS_RESET);
}

static uint32_t half(uint64_t value, uint32_t select)
{
	return select > 1 ? 0 : (uint32_t)(value >> (32 * select));
}

static void set_half(uint64_t *value, uint32_t select, uint32_t part)
{
	if (select <= 1)
		*value = (*value & (0xffffffffull << (32 * !select))) | (uint64_t)part
										<< (32 * select);
}

static uint64_t queue_read(const struct virtq *q, uint64_t reg, unsigned select)
{
	if (!q)
		return 0;
	switch (reg) {
	case VIRTIO_PCI_COMMON_Q_SIZE:
		return q->size;
	case VIRTIO_PCI_COMMON_Q_MSIX:
		return q->vector;
	case VIRTIO_PCI_COMMON_Q_ENABLE:
		return q->ready;
	case VIRTIO_PCI_COMMON_Q_NOFF:
		return select;
	case VIRTIO_PCI_COMMON_Q_DESCLO:
	case VIRTIO_PCI_COMMON_Q_DESCHI:
		return half(q->desc.v, reg == VIRTIO_PCI_COMMON_Q_DESCHI);
	case VIRTIO_PCI_COMMON_Q_AVAILLO:
	case VIRTIO_PCI_COMMON_Q_AVAILHI:
		return half(q->avail.v, reg == VIRTIO_PCI_COMMON_Q_AVAILHI);
	case VIRTIO_PCI_COMMON_Q_USEDLO:
	case VIRTIO_PCI_COMMON_Q_USEDHI:
		return half(q->used.v, reg == VIRTIO_PCI_COMMON_Q_USEDHI);
	default:
		return 0;
	}
}

static uint64_t common_read(struct virtio *v, uint64_t reg)
{
	switch (reg) {
	case VIRTIO_PCI_COMMON_DFSELECT:
		return v->s.device_select;
	case VIRTIO_PCI_COMMON_DF:
		return half(v->features, v->s.device_select);
	case VIRTIO_PCI_COMMON_GFSELECT:
		return v->s.driver_select;
	case VIRTIO_PCI_COMMON_GF:
		return half(v->s.driver_features, v->s.driver_select);
	case VIRTIO_PCI_COMMON_MSIX:
		return v->s.config_vector;
	case VIRTIO_PCI_COMMON_NUMQ:
		return v->ops->queues;
	case VIRTIO_PCI_COMMON_STATUS:
		return v->s.status;
	case VIRTIO_PCI_COMMON_Q_SELECT:
		return v->s.queue_select;
	default:
		return queue_read(selected(v), reg, v->s.queue_select);
	}
}

static uint16_t vector_or_none(uint32_t value)
{
	return value < MSIX_VECTORS ? (uint16_t)value : VECTOR_NONE;
}

static void queue_write(struct virtio *v, struct virtq *q, uint64_t reg, uint32_t value)
{
	if (!q)
		return;
	if (reg == VIRTIO_PCI_COMMON_Q_MSIX)
		q->vector = vector_or_none(value);
	if (q->ready) /* the other registers must not change while the queue is enabled */
		return;
	switch (reg) {
	case VIRTIO_PCI_COMMON_Q_SIZE:
		if (value && value <= VIRTQ_SIZE_MAX && !(value & (value - 1)))
			q->size = (uint16_t)value;
		break;
	case VIRTIO_PCI_COMMON_Q_ENABLE:
		if (value == 1)
			queue_enable(v, q);
		break;
	case VIRTIO_PCI_COMMON_Q_DESCLO:
	case VIRTIO_PCI_COMMON_Q_DESCHI:
		set_half(&q->desc.v, reg == VIRTIO_PCI_COMMON_Q_DESCHI, value);
		break;
	case VIRTIO_PCI_COMMON_Q_AVAILLO:
	case VIRTIO_PCI_COMMON_Q_AVAILHI:
		set_half(&q->avail.v, reg == VIRTIO_PCI_COMMON_Q_AVAILHI, value);
		break;
	case VIRTIO_PCI_COMMON_Q_USEDLO:
	case VIRTIO_PCI_COMMON_Q_USEDHI:
		set_half(&q->used.v, reg == VIRTIO_PCI_COMMON_Q_USEDHI, value);
		break;
	}
}

static void common_write(struct virtio *v, uint64_t reg, uint32_t value)
{
	switch (reg) {
	case VIRTIO_PCI_COMMON_DFSELECT:
		v->s.device_select = value;
		break;
	case VIRTIO_PCI_COMMON_GFSELECT:
		v->s.driver_select = value;
		break;
	case VIRTIO_PCI_COMMON_GF:
		if (!(v->s.status & VIRTIO_CONFIG_S_FEATURES_OK))
			set_half(&v->s.driver_features, v->s.driver_select, value);
		break;
	case VIRTIO_PCI_COMMON_MSIX:
		v->s.config_vector = vector_or_none(value);
		break;
	case VIRTIO_PCI_COMMON_STATUS:
		set_status(v, (uint8_t)value);
		break;
	case VIRTIO_PCI_COMMON_Q_SELECT:
		v->s.queue_select = (uint16_t)value;
		break;
	default:
		queue_write(v, selected(v), reg, value);
	}
}

/* An access to BAR 0. The caller holds the lock. For a read, data[] is zero before the call. */
static void bar_access(struct virtio *v, uint64_t offset, bool write, void *data, unsigned size)
{
	uint64_t at = offset % BAR_PAGE, value = 0;

	memcpy(&value, data, size);
	switch (offset - at) {
	case BAR_COMMON:
		if (write)
			common_write(v, at, (uint32_t)value);
		else
			value = common_read(v, at);
		break;
	case BAR_ISR:
		if (!write) { /* a read acknowledges the interrupt */
			value = v->s.isr;
			v->s.isr = 0;
		}
		break;
	case BAR_DEVICE:
		if (!write && at + size <= v->config_len)
			memcpy(&value, v->config + at, size);
		break;
	case BAR_NOTIFY:
		if (write)
			notify(v, at / NOTIFY_MULTIPLIER);
		break;
	case BAR_MSIX:
		msix_access(&v->s.msix, v->fn.port, at, write, &value, size);
		break;
	case BAR_PBA:
		if (!write && at < 8)
			value = (uint64_t)v->s.msix.pending >> (8 * at);
		break;
	}
	if (!write)
		memcpy(data, &value, size);
}

static void virtio_bar(struct pci_function *fn, struct vcpu *vcpu, uint64_t offset, bool write,
	void *data, unsigned size)
{
	struct virtio *v = virtio_of(fn);

	if (!write)
		memset(data, 0, size);
	lock_take(&v->lock);
	bar_access(v, offset, write, data, size);
	lock_release(&v->lock);
}

/* An access to the BAR through the window in the configuration space (4.1.4.9). */
static void window_access(struct virtio *v, bool write)
{
	uint32_t offset = pci_get(&v->fn, v->cfg_cap + VIRTIO_PCI_CAP_OFFSET, 4);
	uint32_t size = pci_get(&v->fn, v->cfg_cap + VIRTIO_PCI_CAP_LENGTH, 4);
	uint8_t bar = v->fn.config[v->cfg_cap + VIRTIO_PCI_CAP_BAR];
	uint8_t *data = v->fn.config + v->cfg_cap + sizeof(struct virtio_pci_cap);

	if (bar || (size != 1 && size != 2 && size != 4) || offset % size || offset >= BAR_LEN)
		return;
	if (!write)
		memset(data, 0, 4);
	bar_access(v, offset, write, data, size);
}

static void virtio_config(
	struct pci_function *fn, struct vcpu *vcpu, unsigned offset, bool write, unsigned size)
{
	struct virtio *v = virtio_of(fn);
	unsigned data = v->cfg_cap + sizeof(struct virtio_pci_cap);
	unsigned msix = v->cfg_cap + sizeof(struct virtio_pci_cfg_cap);

	lock_take(&v->lock);
	if (offset < data + 4 && offset + size > data)
		window_access(v, write);
	if (write && offset < msix + 4 && offset + size > msix)
		msix_set_control(
			&v->s.msix, fn->port, (uint16_t)pci_get(fn, msix + PCI_MSIX_FLAGS, 2));
	lock_release(&v->lock);
}

/* ---- clone, quiesce, free ---- */

static int virtio_clone(const struct pci_function *fn, struct port *port, struct pci_function **out)
{
	const struct virtio *from = (const struct virtio *)fn;
	struct virtio *to;
	int ret = from->ops->clone(from, port, &to);

	if (ret)
		return ret;
	memcpy(to->fn.config, fn->config, sizeof(fn->config));
	to->s = from->s;
	*out = &to->fn;
	return 0;
}

static void set_quiet(struct pci_function *fn, bool quiet)
{
	struct virtio *v = virtio_of(fn);

	lock_take(&v->lock);
	v->quiet = quiet;
	lock_release(&v->lock);
}

static void virtio_quiesce(struct pci_function *fn)
{
	set_quiet(fn, true);
}

static void virtio_unquiesce(struct pci_function *fn)
{
	set_quiet(fn, false);
}

static void virtio_free(struct pci_function *fn)
{
	struct virtio *v = virtio_of(fn);

	v->ops->free(v);
}

static const struct pci_function_ops virtio_ops = {
	.bar = virtio_bar,
	.config = virtio_config,
	.clone = virtio_clone,
	.quiesce = virtio_quiesce,
	.unquiesce = virtio_unquiesce,
	.free = virtio_free,
};

static unsigned add_structure(
	struct pci_function *fn, uint8_t type, uint32_t offset, uint32_t len, unsigned cap_len)
{
	unsigned at = pci_add_capability(fn, PCI_CAP_ID_VNDR, cap_len);

	pci_set(fn, at + VIRTIO_PCI_CAP_LEN, cap_len, 1);
	pci_set(fn, at + VIRTIO_PCI_CAP_CFG_TYPE, type, 1);
	pci_set(fn, at + VIRTIO_PCI_CAP_OFFSET, offset, 4);
	pci_set(fn, at + VIRTIO_PCI_CAP_LENGTH, len, 4);
	return at;
}

static void add_capabilities(struct virtio *v)
{
	const unsigned len = sizeof(struct virtio_pci_cap);
	struct pci_function *fn = &v->fn;
	unsigned at;

	add_structure(fn, VIRTIO_PCI_CAP_COMMON_CFG, BAR_COMMON,
		sizeof(struct virtio_pci_common_cfg), len);
	add_structure(fn, VIRTIO_PCI_CAP_ISR_CFG, BAR_ISR, 1, len);
	if (v->config_len)
		add_structure(fn, VIRTIO_PCI_CAP_DEVICE_CFG, BAR_DEVICE, v->config_len, len);
	at = add_structure(fn, VIRTIO_PCI_CAP_NOTIFY_CFG, BAR_NOTIFY,
		v->ops->queues * NOTIFY_MULTIPLIER, sizeof(struct virtio_pci_notify_cap));
	pci_set(fn, at + VIRTIO_PCI_NOTIFY_CAP_MULT, NOTIFY_MULTIPLIER, 4);

	v->cfg_cap =
		add_structure(fn, VIRTIO_PCI_CAP_PCI_CFG, 0, 0, sizeof(struct virtio_pci_cfg_cap));
	memset(fn->writable + v->cfg_cap + VIRTIO_PCI_CAP_BAR, 0xff, 1);
	memset(fn->writable + v->cfg_cap + VIRTIO_PCI_CAP_OFFSET, 0xff, 12);

	msix_add_capability(fn, BAR_MSIX, BAR_PBA);
}

void virtio_init(struct virtio *v, const struct virtio_ops *ops, struct port *port,
	uint64_t features, const void *config, unsigned len)
{
	pci_function_init(&v->fn, &virtio_ops, port, VENDOR_VIRTIO,
		(uint16_t)(DEVICE_VIRTIO + ops->id), ops->class, BAR_LEN);
	pci_set(&v->fn, PCI_REVISION_ID, 1, 1); /* 4.1.2.1: not transitional */
	pci_set(&v->fn, PCI_SUBSYSTEM_VENDOR_ID, VENDOR_VIRTIO, 2);
	pci_set(&v->fn, PCI_SUBSYSTEM_ID, ops->id, 2);
	v->ops = ops;
	v->features = features | 1ull << VIRTIO_F_VERSION_1;
	v->config_len = len;
	if (len)
		memcpy(v->config, config, len);
	lock_init(&v->lock, LOCK_VIRTIO);
	add_capabilities(v);
	msix_init(&v->s.msix);
	reset(v);
}

void virtio_destroy(struct virtio *v)
{
	lock_destroy(&v->lock);
}
