// SPDX-License-Identifier: Apache-2.0
#include "vmm/vm/config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "guest/guests.h"
#include "vmm/base/err.h"
#include "vmm/base/units.h"

#define MEMORY_DEFAULT	  (64ull << 20)
#define MEMORY_KERNEL	  (512ull << 20) /* enough for a distribution's kernel and initrd */
#define SHELLS_DEFAULT	  2u
#define RESEED_MS_DEFAULT 30000u /* enough for a busy host and a guest with interrupts off */

static bool name_ok(const char *name)
{
	size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-");

	/* No dot, since it separates a family's name from a clone's number. 22 bytes are left for
	 * that number. */
	return n && !name[n] && n <= RAMET_NAME_MAX - 22 && name[0] != '-';
}

static int check_guest(const struct ramet_config *c, struct ramet_err *err)
{
	char why[sizeof(err->msg)];
	int r = guest_args_check(c->guest, c->args, c->memory, why, sizeof(why));

	return r ? err_set(err, r, "%s", why) : 0;
}

static int check_config(const struct ramet_config *c, struct ramet_err *err)
{
	if (!name_ok(c->name))
		return err_set(err, -EINVAL,
			"bad name '%.64s': letters, digits, '_' and '-', at most %u, not starting "
			"with '-'",
			c->name, RAMET_NAME_MAX - 22);
	if (c->memory < RAMET_MEMORY_MIN || c->memory > RAMET_MEMORY_MAX || c->memory % SPAN_SIZE)
		return err_set(err, -EINVAL,
			"bad memory size %llu: a multiple of 2 MiB from 16 MiB to 64 GiB",
			(unsigned long long)c->memory);
	if (!c->cpus || c->cpus > RAMET_CPUS_MAX)
		return err_set(
			err, -EINVAL, "bad number of vCPUs %u: 1 to %u", c->cpus, RAMET_CPUS_MAX);
	if (!c->guest == !c->kernel)
		return err_set(err, -EINVAL,
			"a VM needs a built-in guest or a kernel, and cannot have both");
	if (c->guest && (c->initrd || c->n_disks))
		return err_set(err, -EINVAL,
			"an initrd and disks need a kernel: built-in guests have no driver for "
			"them");
	if (c->n_disks > RAMET_DISKS_MAX)
		return err_set(err, -EINVAL, "too many disks: %u, at most %u", c->n_disks,
			RAMET_DISKS_MAX);
	if (c->reseed > RAMET_RESEED_OFF)
		return err_set(err, -EINVAL, "bad value %d of `reseed`: 0 to %d", (int)c->reseed,
			(int)RAMET_RESEED_OFF);
	if (c->max_pool && c->max_pool < c->memory)
		return err_set(err, -EINVAL,
			"the family's memory limit of %llu MiB is less than one VM's memory, %llu "
			"MiB",
			(unsigned long long)(c->max_pool >> 20),
			(unsigned long long)(c->memory >> 20));
	return c->guest ? check_guest(c, err) : 0;
}

void config_free(struct ramet_config *c)
{
	free((char *)c->name);
	free((char *)c->guest);
	free((char *)c->args);
	free((char *)c->kernel);
	free((char *)c->initrd);
	for (unsigned i = 0; i < c->n_disks; i++)
		free((char *)c->disks[i].path);
}

static bool copy_string(const char **s)
{
	if (!*s)
		return true;
	*s = strdup(*s);
	return *s != NULL;
}

int config_copy(struct ramet_config *to, const struct ramet_config *from, struct ramet_err *err)
{
	struct ramet_config c = *from;
	bool ok;
	int r;

	if (!c.name)
		c.name = c.guest ? c.guest : "linux";
	if (!c.memory)
		c.memory = c.kernel ? MEMORY_KERNEL : MEMORY_DEFAULT;
	c.cpus = c.cpus ? c.cpus : 1;
	c.shells = c.shells ? c.shells : SHELLS_DEFAULT;
	c.shells = c.shells < RAMET_SHELLS_MAX ? c.shells : RAMET_SHELLS_MAX;
	c.reseed_ms = c.reseed_ms ? c.reseed_ms : RESEED_MS_DEFAULT;
	r = check_config(&c, err);
	if (r)
		return r;
	/* Every pointer becomes a copy or NULL, so that config_free() works even after a failure.
	 */
	ok = copy_string(&c.name);
	ok = copy_string(&c.guest) && ok;
	ok = copy_string(&c.args) && ok;
	ok = copy_string(&c.kernel) && ok;
	ok = copy_string(&c.initrd) && ok;
	for (unsigned i = 0; i < c.n_disks; i++)
		ok &= copy_string(&c.disks[i].path);
	if (!ok) {
		config_free(&c);
		return err_set(err, -ENOMEM, "out of memory");
	}
	*to = c;
	return 0;
}
