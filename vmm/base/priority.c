// SPDX-License-Identifier: Apache-2.0
#include "vmm/base/priority.h"

_Thread_local int hurry_known;
