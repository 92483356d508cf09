// SPDX-License-Identifier: Apache-2.0
#include "vmm/devices/device.h"

#include <errno.h>
#include <string.h>

void device_set_free(struct device_set *set)
{
	while (set->n) {
		struct device *d = set->dev[--set->n];

		d->ops->free(d);
	}
}

int device_set_clone(const struct device_set *from, struct port *port, struct device_set *out)
{
	struct device_set set = { .n = 0 };

	for (unsigned i = 0; i < from->n; i++) {
		int r = from->dev[i]->ops->clone(from->dev[i], port, &set.dev[i]);

		if (r) {
			device_set_free(&set);
			return r;
		}
		set.n++;
	}
	*out = set;
	return 0;
}

void device_set_quiesce(struct device_set *set)
{
	for (unsigned i = 0; i < set->n; i++)
		if (set->dev[i]->ops->quiesce)
			set->dev[i]->ops->quiesce(set->dev[i]);
}

void device_set_unquiesce(struct device_set *set)
{
	for (unsigned i = 0; i < set->n; i++)
		if (set->dev[i]->ops->unquiesce)
			set->dev[i]->ops->unquiesce(set->dev[i]);
}

void device_set_attach(struct device_set *set)
{
	for (unsigned i = 0; i < set->n; i++)
		if (set->dev[i]->ops->attach)
			set->dev[i]->ops->attach(set->dev[i]);
}

int device_set_born(struct device_set *set)
{
	int r = 0;

	for (unsigned i = 0; i < set->n && !r; i++)
		if (set->dev[i]->ops->born)
			r = set->dev[i]->ops->born(set->dev[i]);
	return r;
}

void device_set_loaded(struct device_set *set)
{
	for (unsigned i = 0; i < set->n; i++)
		if (set->dev[i]->ops->loaded)
			set->dev[i]->ops->loaded(set->dev[i]);
}

void device_no_answer(bool write, void *data, unsigned size)
{
	if (!write)
		memset(data, 0xff, size);
}

void device_set_io(struct device_set *set, struct vcpu *vcpu, enum device_space space,
	uint64_t addr, bool write, void *data, unsigned size)
{
	for (unsigned i = 0; i < set->n; i++) {
		struct device *d = set->dev[i];

		for (unsigned w = 0; w < DEVICE_WINDOWS_MAX; w++) {
			const struct device_window *win = &d->win[w];

			if (win->space != space || addr < win->base ||
				addr - win->base >= win->len ||
				win->len - (addr - win->base) < size)
				continue;
			d->ops->io(d, vcpu, w, addr - win->base, write, data, size);
			return;
		}
	}
	device_no_answer(write, data, size);
}
