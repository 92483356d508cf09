/* SPDX-License-Identifier: Apache-2.0 */
/* The kind of KVM behind /dev/kvm, found from trees that look like those of several hosts. */
#include <errno.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "vmm/kvm/kvm-kind.h"

static char root[64];

static void make_dirs(const char *path)
{
	char at[256];

	snprintf(at, sizeof(at), "%s/%s/", root, path);
	for (char *p = at + strlen(root) + 1; (p = strchr(p, '/')); *p++ = '/') {
		*p = 0;
		assert_true(mkdir(at, 0755) == 0 || errno == EEXIST);
	}
}

static void put_flags(const char *flags)
{
	char at[256];
	FILE *f;

	make_dirs("proc");
	snprintf(at, sizeof(at), "%s/proc/cpuinfo", root);
	f = fopen(at, "w");
	assert_non_null(f);
	for (int i = 0; i < 2; i++)
		fprintf(f,
			"processor\t: %d\nmodel name\t: svm vmx\nflags\t\t: %s\nvmx flags\t: x\n\n",
			i, flags);
	assert_int_equal(fclose(f), 0);
}

static void put_module(const char *name)
{
	char path[64];

	snprintf(path, sizeof(path), "sys/module/%s/parameters", name);
	make_dirs(path);
}

static int make_root(void **state)
{
	strcpy(root, "/tmp/ramet-unit-kind.XXXXXX");
	unsetenv("RAMET_KVM_KIND");
	return mkdtemp(root) ? 0 : -1;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
	return remove(path);
}

static int remove_root(void **state)
{
	unsetenv("RAMET_KVM_KIND");
	return nftw(root, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

/* No /proc, no /sys: a tight container. */
static void test_nothing(void **state)
{
	assert_int_equal(kvm_kind(root), KVM_KIND_UNKNOWN);
	put_module("kvm_pvm");
	assert_int_equal(kvm_kind(root), KVM_KIND_SOFTWARE);
}

static void test_hardware(void **state)
{
	put_flags("fpu vme vmx lm");
	assert_int_equal(kvm_kind(root), KVM_KIND_HARDWARE); /* /sys hidden */
	put_module("kvm_intel");
	assert_int_equal(kvm_kind(root), KVM_KIND_HARDWARE);
	put_flags("svm");
	assert_int_equal(kvm_kind(root), KVM_KIND_HARDWARE);
	put_flags("fpu svm");
	assert_int_equal(kvm_kind(root), KVM_KIND_HARDWARE);
}

static void test_software(void **state)
{
	/* A part of another word does not count, nor does a built-in module without hardware. */
	put_flags("fpu svm_lock xvmx lm vmxx");
	assert_int_equal(kvm_kind(root), KVM_KIND_SOFTWARE);
	put_module("kvm_intel");
	put_module("kvm_amd");
	assert_int_equal(kvm_kind(root), KVM_KIND_SOFTWARE);
	put_module("kvm_pvm");
	assert_int_equal(kvm_kind(root), KVM_KIND_SOFTWARE);
}

/* The processor has virtualization, but the loaded module does not use it. */
static void test_pvm(void **state)
{
	put_flags("fpu vmx lm");
	put_module("kvm");
	put_module("kvm_pvm");
	assert_int_equal(kvm_kind(root), KVM_KIND_SOFTWARE);
	put_module("kvm_intel"); /* one of them is built in */
	assert_int_equal(kvm_kind(root), KVM_KIND_UNKNOWN);
}

static void test_told(void **state)
{
	struct ramet_err err;

	put_flags("fpu lm");
	setenv("RAMET_KVM_KIND", "hardware", 1);
	assert_int_equal(kvm_kind(root), KVM_KIND_HARDWARE);
	put_flags("fpu vmx lm");
	setenv("RAMET_KVM_KIND", "software", 1);
	assert_int_equal(kvm_kind(root), KVM_KIND_SOFTWARE);
	assert_int_equal(kvm_runs_linux(&err), -ENOTSUP);
	assert_non_null(strstr(err.msg, "scripts/nested"));
	setenv("RAMET_KVM_KIND", "hardware", 1);
	assert_int_equal(kvm_runs_linux(&err), 0);
	setenv("RAMET_KVM_KIND", "what", 1);
	assert_int_equal(kvm_kind(root), KVM_KIND_HARDWARE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_nothing, make_root, remove_root),
		cmocka_unit_test_setup_teardown(test_hardware, make_root, remove_root),
		cmocka_unit_test_setup_teardown(test_software, make_root, remove_root),
		cmocka_unit_test_setup_teardown(test_pvm, make_root, remove_root),
		cmocka_unit_test_setup_teardown(test_told, make_root, remove_root),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
