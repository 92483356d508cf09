#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# ramet bench tables: its output has the documented form.

small="--mapped 64M,128M --reclaim 64M --reps 1"

@test "JSON: each benchmark's objects, in numbers that make sense" {
	"$RAMET" bench tables $small --json >"$BATS_TEST_TMPDIR/out"
	python3 - "$BATS_TEST_TMPDIR/out" <<-END
	import json, sys
	all = json.load(open(sys.argv[1]))
	of = lambda bench: [o for o in all if o["bench"] == bench]
	fork = of("fork")
	assert [o["share"] for o in fork] == 2 * ["copy", "pte", "pd", "pdpt", "root"]
	assert {o["mapped_gib"] for o in fork} == {0.0625, 0.125}
	for o in fork:
	    assert 0 < o["us"]["p50"] <= o["us"]["p99"]
	# 64M: 32 PTE tables and three above them.
	assert [o["table_bytes_child"] for o in fork[:5]] == [35 * 4096, 3 * 4096, 2 * 4096, 4096, 0]
	assert {o["table_bytes_parent"] for o in fork[:5]} == {35 * 4096}
	assert len(of("first_write")) == 15 and len(of("read")) == 5 and len(of("walks")) == 16
	reclaim = {o["scheme"]: o for o in of("reclaim")}
	assert set(reclaim) == {"none", "scan", "atomic", "percpu"}
	for o in reclaim.values():
	    assert o["table_bytes_before"] == 35 * 4096 and o["ops_per_s"] > 0
	    assert o["table_bytes_after"] == (35 if o["scheme"] == "none" else 1) * 4096
	END
}

@test "CSV: as many values in each line as there are columns" {
	"$RAMET" bench tables $small --only fork --csv >"$BATS_TEST_TMPDIR/out"
	[ "$(wc -l <"$BATS_TEST_TMPDIR/out")" -eq 11 ]
	[ "$(awk -F, '{ print NF }' "$BATS_TEST_TMPDIR/out" | sort -u)" = 16 ]
}

@test "bad options are refused" {
	run "$RAMET" bench tables --mapped 3K
	[ "$status" -eq 2 ]
	[[ "$output" == *"multiples of 2M"* ]]
	run "$RAMET" bench tables --only nothing
	[ "$status" -eq 2 ]
	[[ "$output" == *"not one of"* ]]
}
