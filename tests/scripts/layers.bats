#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# scripts/layers accepts a tree in which each folder uses only lower ones, and refuses each kind of use that goes up.

setup()
{
	layers=$BATS_TEST_DIRNAME/../../scripts/layers
	house=$BATS_TEST_TMPDIR/house
	mkdir -p "$house"/vmm/{base,memory,devices} "$house"/include/ramet "$house"/build/vmm
	echo 'int ramet_fork(int n);' >"$house/include/ramet/ramet.h"
	put vmm/base/err.h 'int err_set(int code);'
	put vmm/base/err.c '#include "vmm/base/err.h"' 'int err_set(int code) { return code; }'
	put vmm/memory/view.h 'int view_map(int off);'
	put vmm/memory/view.c '#include "vmm/memory/view.h"' '#include "vmm/base/err.h"' \
		'int view_map(int off) { return err_set(off); }'
	put vmm/devices/disk.c '#include "vmm/base/err.h"' 'int disk_read(int n) { return err_set(n); }'
}

# put FILE LINE...
put()
{
	local file=$house/$1
	shift
	printf '%s\n' "$@" >"$file"
}

# build: makes an archive for each folder, as meson does.
build()
{
	local folder file
	for folder in "$house"/vmm/*/; do
		folder=$(basename "$folder")
		rm -f "$house/build/vmm/libvmm-$folder.a"
		for file in "$house/vmm/$folder"/*.c; do
			"${CC:-cc}" -I "$house" -c "$file" -o "$house/build/${folder}_$(basename "$file").o"
			ar rc "$house/build/vmm/libvmm-$folder.a" "$house/build/${folder}_$(basename "$file").o"
		done
	done
}

look()
{
	build
	run "$layers" --root "$house" --libs "$house/build"
	echo "$output"
}

@test "a tree in which each folder uses only lower ones" {
	look
	[ "$status" -eq 0 ]
	[ -z "$output" ]
}

@test "an include that goes up" {
	put vmm/base/up.c '#include "vmm/memory/view.h"' 'int up(void) { return 0; }'
	look
	[ "$status" -eq 1 ]
	[ "$output" = 'vmm/base/up.c includes vmm/memory/view.h, but base/ may use only: nothing' ]
}

@test "an include that goes sideways" {
	put vmm/devices/side.c '#include "vmm/memory/view.h"' 'int side(void) { return 0; }'
	look
	[ "$status" -eq 1 ]
	[ "$output" = 'vmm/devices/side.c includes vmm/memory/view.h, but devices/ may use only: base' ]
}

@test "a function of a higher folder that is declared by hand" {
	put vmm/base/up.c 'int view_map(int off);' 'int up(void) { return view_map(0); }'
	look
	[ "$status" -eq 1 ]
	[[ "${lines[0]}" == 'base/ (base_up.c) uses view_map of memory/, but may use only: nothing' ]]
}

@test "the public interface may be used from anywhere" {
	put vmm/devices/fork.c 'int ramet_fork(int n);' 'int devices_fork(void) { return ramet_fork(1); }'
	put vmm/memory/fork.c 'int ramet_fork(int n);' 'int ramet_fork(int n) { return n; }'
	look
	[ "$status" -eq 0 ]
}

@test "a header that declares what another folder defines" {
	put vmm/devices/disk.h 'int view_map(int off);'
	look
	[ "$status" -eq 1 ]
	[ "$output" = 'vmm/devices/disk.h declares view_map(), which is defined in memory/' ]
}

@test "two files that include each other's headers" {
	put vmm/memory/pool.h 'int pool_get(void);'
	put vmm/memory/pool.c '#include "vmm/memory/view.h"' 'int pool_get(void) { return 0; }'
	put vmm/memory/view.c '#include "vmm/memory/pool.h"' 'int view_map(int off) { return off; }'
	look
	[ "$status" -eq 1 ]
	[[ "$output" == 'a circle of files: '*vmm/memory/* ]]
}

@test "two files that call each other without an include" {
	put vmm/memory/a.c 'int b(void);' 'int a(void) { return b(); }'
	put vmm/memory/b.c 'int a(void);' 'int b(void) { return a(); }'
	look
	[ "$status" -eq 1 ]
	[[ "$output" == 'a circle of object files: '*memory_a.c.o* ]]
}

@test "a folder that has no layer" {
	mkdir "$house/vmm/attic"
	put vmm/attic/old.c '#include "vmm/base/err.h"' 'int old(void) { return 0; }'
	look
	[ "$status" -eq 1 ]
	[[ "${lines[0]}" == 'vmm/attic/old.c: scripts/layers does not know what the folder attic/ may use' ]]
}

@test "a build folder that is not there, or in which nothing is built" {
	run "$layers" --root "$house" --libs "$house/nowhere"
	[ "$status" -eq 2 ]
	run "$layers" --root "$house" --libs "$house/build"
	[ "$status" -eq 1 ]
	[[ "$output" == *'no library of vmm/ is built there' ]]
}
