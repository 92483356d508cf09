// SPDX-License-Identifier: Apache-2.0
#include "guest/metal/hv.h"

#include "guest/metal/lib.h"

const struct hv *hv;

void hv_init(void)
{
	hv = hv_svm.present() ? &hv_svm : hv_vmx.present() ? &hv_vmx : NULL;
	if (!hv)
		fatal("this processor has neither SVM with nested paging nor VMX with EPT");
}
