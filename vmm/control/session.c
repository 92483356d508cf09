/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/control/session.h"

#include <errno.h>

struct ramet_vm *session_find(struct session *s, const char *name, json_t **refusal)
{
	struct ramet_vm *vm = ramet_find(s->host->family, name);
	struct ramet_stat st;

	if (!vm && host_ended(s->host, name, &st, NULL))
		*refusal = error_json(
			ESRCH, "VM '%s' has ended, with status %d", name, st.exit_status);
	else if (!vm)
		*refusal = error_json(ESRCH,
			"there is no VM '%s' in family '%s' (any more); 'ramet list' shows what "
			"runs",
			name, s->host->name);
	return vm;
}
