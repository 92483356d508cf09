#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Families: launch, fork, look, pause, stop; names; processes that die.

load common.bash

@test "run --detach, list, stat, stop" {
	need_kvm
	run counter web
	[ "$status" -eq 0 ]
	[ "$output" = web ]
	ramet list | grep -qE '^web +running +16M'
	[ "$(ramet stat web --json | field vm state)" = running ]
	ramet stat web | grep -qE 'state +running'
	ramet stop web
	nothing_left
}

@test "fork: rows, the tree, names, counts" {
	counter web
	ramet wait web --heartbeats 2 --timeout 20
	run ramet fork web --count 3
	echo "$output"
	[ "$status" -eq 0 ]
	[ "$(grep -cE '^web\.[123] .* (us|ms)' <<<"$output")" -eq 3 ]
	ramet fork web.2
	ramet list
	ramet list | grep -qE '(├─|\|-|└─|`-)web\.1'
	[ "$(ramet stat web.4 --json | field vm parent_id)" = 2 ]
	ramet wait web.4 --heartbeats 5 --timeout 20
	ramet fork web --json | field clones 0 name | grep -qx web.5
}

@test "private and shared memory: at first all is private, after a fork nearly all is shared" {
	need_kvm
	memory() { ramet stat "$1" --json | field vm "$2"; }
	ramet run --name web --memory 64M --guest dirty --args 'dirty=32M rate=1' --detach
	ramet wait web --phase ready --timeout 20
	[ "$(memory web private_bytes)" -ge $((32 << 20)) ]
	[ "$(memory web shared_bytes)" -eq 0 ]
	[ "$(memory web deferred_bytes)" -eq 0 ]
	ramet fork web
	ramet fork web.1
	for vm in web web.1 web.2; do
		[ "$(memory $vm private_bytes)" -lt $((2 << 20)) ]
	done
	ramet list | grep -E '^web +running +64M +6[234]'
	ramet list | grep -E 'web.2 +running +64M +6[234]'
	ramet fork web --memory | grep -E '^memory mapped, each VM +64M +64M'
}

@test "run --shells N: N shells are kept ready" {
	need_kvm
	ramet run --name web --memory 16M --shells 5 --guest count --detach
	for _ in $(seq 100); do
		[ "$(ramet stat web --json | field family shells_ready)" -lt 5 ] || break
		sleep 0.05
	done
	[ "$(ramet stat web --json | field family shells_ready)" -ge 5 ]
	ramet fork web --count 3
	fails 2 "shells: 4098 is out of range" ramet run --shells 4098 --guest count
}

@test "stopping one VM leaves the others alone; the last one ends the process" {
	counter web
	ramet fork web --count 2
	ramet stop web
	ramet wait web.1 --heartbeats 5 --timeout 20
	ramet stop web.1
	ramet wait web.2 --heartbeats 5 --timeout 20
	fails 1 "no VM 'web.1'|stopped" ramet fork web.1
	ramet stop web.2
	nothing_left
	fails 1 "no family 'web'" ramet stat web
}

@test "pause, fork of a paused VM, resume" {
	counter web
	ramet wait web --heartbeats 2 --timeout 20
	ramet pause web
	[ "$(ramet stat web --json | field vm state)" = paused ]
	beats=$(ramet stat web --json | field vm heartbeats)
	ramet fork web
	[ "$(ramet stat web.1 --json | field vm state)" = paused ]
	ramet fork web --run
	[ "$(ramet stat web.2 --json | field vm state)" = running ]
	[ "$(ramet stat web --json | field vm heartbeats)" = "$beats" ]
	ramet resume web web.1
	ramet wait web --heartbeats $((beats + 3)) --timeout 20
	ramet wait web.1 --heartbeats 3 --timeout 20
}

@test "reset puts a clone back" {
	counter web
	fails 1 "." ramet reset web
	ramet wait web --heartbeats 2 --timeout 20
	ramet fork web
	ramet wait web.1 --heartbeats 5 --timeout 20
	births=$(ramet stat web.1 --json | field vm births)
	ramet reset web.1
	[ "$(ramet stat web.1 --json | field vm births)" -gt "$births" ]
	ramet stop web.1
}

@test "dump: the image, holes, refusals" {
	counter web
	# The guest's code must be the same as in its ELF file.
	objcopy -O binary "$(dirname "$RAMET")/guest/count.elf" "$BATS_TEST_TMPDIR/image"
	ramet dump web --gpa 1M --size 2K | cmp -n 2048 - "$BATS_TEST_TMPDIR/image"
	ramet dump web --gpa 0x10000 --size 4 | od -An -tx1 | grep -q 'd0 0d fe ed'
	ramet pause web
	ramet dump web --gpa 0 --size 16M >"$BATS_TEST_TMPDIR/a"
	ramet dump web --gpa 0 --size 16M | cat >"$BATS_TEST_TMPDIR/b"
	cmp "$BATS_TEST_TMPDIR/a" "$BATS_TEST_TMPDIR/b"
	[ "$(stat -c %s "$BATS_TEST_TMPDIR/a")" -eq $((16 << 20)) ]
	[ "$(du -k "$BATS_TEST_TMPDIR/a" | cut -f1)" -lt 8192 ]
	fails 1 "not all of that is guest RAM" ramet dump web --gpa 15M --size 2M
	fails 1 "not all of that is guest RAM" ramet dump web --gpa 0x7fffffffffffffff --size 1
	run script -qec "$RAMET dump web --size 1" /dev/null
	[ "$status" -eq 1 ]
	grep -q "will not write guest memory to a terminal" <<<"$output"
	fails 1 "writing to stdout: No space" bash -c "'$RAMET' dump web --size 1M >/dev/full"
}

@test "the process gives up what it does not need, unless told not to" {
	! ldd "$RAMET" | grep -q libasan || skip "the leak checker needs more"
	counter web
	grep -qE '^Seccomp:\s+2' "/proc/$(processes_serving web)/status"
	grep -qE '^NoNewPrivs:\s+1' "/proc/$(processes_serving web)/status"
	counter free --no-sandbox
	grep -qE '^Seccomp:\s+0' "/proc/$(processes_serving free)/status"
}

@test "a control group too small: VMs fail and forks are refused, and say whose memory is short" {
	need_kvm
	for parent in /sys/fs/cgroup/memory /sys/fs/cgroup none; do
		[ -w "$parent/cgroup.procs" ] || continue
		echo +memory >"$parent/cgroup.subtree_control" || true
		group=$parent/ramet-bats-$$
		mkdir "$group"
		[ -e "$group/memory.limit_in_bytes" ] && limit=memory.limit_in_bytes || limit=memory.max
		[ -e "$group/$limit" ] && break
		rmdir "$group"
	done 2>/dev/null
	[ "$parent" != none ] || skip "cannot make a control group with a memory limit"
	echo 80M >"$group/$limit"
	echo 0 >"$group/memory.swap.max" || true
	(
		echo "$BASHPID" >"$group/cgroup.procs"
		ramet run --name box --memory 32M --guest verify --args memory=24M --detach
	)
	ramet wait box --heartbeats 1 --timeout 20
	ramet stat box | grep -q "headroom of .*the control group '.*ramet-bats"
	[ "$(ramet stat box --json | field family headroom_bytes)" -le $((80 << 20)) ]
	for ((i = 0; i < 100; i++)); do
		run ramet fork box -n 2
		[ "$status" -eq 0 ] || ! grep "the control group '.*ramet-bats-.*' ha[sd] .* MiB of its 80 MiB left" <<<"$output" || break
	done
	[ "$i" -lt 100 ] || { echo "last: $output"; false; }
	ramet list >/dev/null
	ramet stop --all box || true # if even the last has failed
	for ((i = 0; i < 100; i++)); do
		rmdir "$group" && break
		sleep 0.1
	done
	[ ! -e "$group" ]
}

@test "a name is taken until its family has gone" {
	counter web
	fails 1 "'web' is taken" ramet run --name web --guest count
	fails 1 "'web' is taken" ramet run --name web --guest count --detach
	ramet wait web --heartbeats 2 --timeout 20
	ramet stop --all web
	counter web
}

@test "the process killed with a client waiting: both clients and names recover" {
	counter web
	ramet wait web --stopped 2>"$BATS_TEST_TMPDIR/err" &
	waiter=$!
	ramet console web </dev/null >/dev/null 2>&1 &
	console=$!
	sleep 0.5
	kill -9 "$(processes_serving web)"
	status=0
	wait "$waiter" || status=$?
	[ "$status" -eq 1 ]
	grep -q "process of family 'web' ended" "$BATS_TEST_TMPDIR/err"
	wait "$console" || true
	fails 1 "its process has crashed or was killed" ramet stat web
	fails 1 "no family 'web'" ramet stat web
	counter web
	kill -9 "$(processes_serving web)"
	# A killed process keeps its socket until the kernel has freed the process.
	while [ -n "$(processes)" ]; do sleep 0.1; done
	counter web
}

@test "out of descriptors: the fork fails whole, the VM goes on, the family can be stopped" {
	need_kvm
	(ulimit -n 64; counter web)
	ramet wait web --heartbeats 2 --timeout 20
	fails 1 "descriptor|open files" ramet fork web --count 100
	ramet list
	[ "$(ramet list --json | grep -c '"name"')" -eq 1 ]
	beats=$(ramet stat web --json | field vm heartbeats)
	ramet wait web --heartbeats $((beats + 5)) --timeout 20
	ramet stop web
	nothing_left
}

@test "SIGTERM stops everything" {
	counter web
	ramet fork web --count 3
	kill "$(processes_serving web)"
	nothing_left
}

@test "foreground: output, exit status, Ctrl-C, SIGTERM" {
	need_kvm
	run bash -c "timeout -s INT 3 '$RAMET' run --guest count --memory 16M </dev/null"
	[ "$status" -eq 124 ] || [ "$status" -eq 130 ]
	nothing_left
	run bash -c "'$RAMET' run --guest count --memory 16M --args 'beats=3 status=7' </dev/null"
	[ "$status" -eq 7 ]
	[ "$output" = "count: hello" ]
	nothing_left
	run bash -c "timeout 3 '$RAMET' run --guest dirty --memory 16M </dev/null"
	echo "$output"
	grep -q "dirty: done" <<<"$output"
	nothing_left
}

@test "foreground in a pipe that closes: stops, does not hang" {
	need_kvm
	timeout 20 bash -c "'$RAMET' run --guest count --memory 16M </dev/null | true"
	nothing_left
}

@test "console: the backlog, then nothing lost" {
	need_kvm
	ramet run --name d --memory 16M --guest dirty --detach
	ramet wait d --timeout 20
	timeout 2 "$RAMET" console d </dev/null >"$BATS_TEST_TMPDIR/out" || true
	grep -q "dirty: done" "$BATS_TEST_TMPDIR/out"
}

@test "wait: phases, timeouts, VMs that stop meanwhile" {
	counter web
	ramet wait web --running --timeout 20
	fails 1 "did not happen in time" ramet wait web --stopped --timeout 0
	fails 2 "no phase" ramet wait web --phase moon
	ramet wait web --heartbeats 1000000 2>"$BATS_TEST_TMPDIR/err" &
	waiter=$!
	sleep 0.3
	ramet stop web
	status=0
	wait $waiter || status=$?
	[ "$status" -eq 1 ]
	grep -qE "stopped before|ended before" "$BATS_TEST_TMPDIR/err"
}

@test "bench clone: the keys, the table, the files" {
	need_kvm
	cd "$BATS_TEST_TMPDIR"
	ramet bench clone --memory 16M,32M --dirty 1M,2M --reps 2 --json j --csv c --plot p.svg | tee t
	grep -q MEMORY t
	[ "$(grep -c dirty_mib j)" -eq 8 ]
	for k in memory_mib dirty_mib vcpus clones mode pause_us ready_us parent_ready_us cold_ready_us \
		fork4k_us forkthp_us fullcopy_us tables_before_bytes tables_after_bytes \
		tables_classic_bytes private_bytes_per_clone; do
		field 0 "$k" <j >/dev/null
	done
	field 0 pause_us p99 <j
	[ "$(wc -l <c)" -eq 9 ]
	grep -q '</svg>' p.svg
	fails 1 "cannot write" ramet bench clone --memory 16M --dirty 1M --reps 1 --json /nonexistent/x
}

@test "bench reset, recover and churn: the keys, and nothing left behind" {
	need_kvm
	cd "$BATS_TEST_TMPDIR"
	ramet bench reset --memory 16M --reps 3 --json=r
	[ "$(field 1 dirty_pages <r)" -eq 10 ]
	field 3 us p99 <r
	field 3 resets_per_s <r
	ramet bench recover --memory 32M --dirty 4M --time 1 --json c --plot p.svg | grep -q undisturbed
	field parent recovered_ms <c
	field child samples 0 <c
	grep -q '</svg>' p.svg
	run ramet bench recover --memory 32M --dirty 4M --time 1 --child 100
	[ "$status" -eq 0 ]
	grep -q '^parent' <<<"$output"
	[ "$(grep -c '^child' <<<"$output")" -eq 0 ]
	ramet bench churn --memory 16M --count 200 --batch 4 --json h | grep -q 'clones a second'
	[ "$(field clones <h)" -ge 200 ]
	[ "$(field held 10 generations <h)" -eq "$(field held 0 generations <h)" ]
	[ "$(field held 10 tables <h)" -eq "$(field held 0 tables <h)" ]
	[ "$(field held 10 pool_bytes <h)" -eq "$(field held 0 pool_bytes <h)" ]
}

@test "bench burst: clones that run, a family that answers, and nothing left behind" {
	need_kvm
	cd "$BATS_TEST_TMPDIR"
	ramet bench burst --count 12 --memory 16M --reps 1 --probes 2 --json j --csv c --plot p.svg >t
	grep -q '^busy *prepared' t
	grep -q '^sleeping *made' t
	for k in guests shells clones command_ms started_ms ready_ms all_ready_ms stop_all_ms gone_ms \
		baseline_ms pause_ms answer_stat_ms answer_list_ms answer_pause_ms answer_stop_ms \
		answer_fork_ms private_bytes_per_clone host_bytes_per_clone; do
		field 3 "$k" <j >/dev/null
	done
	[ "$(field 0 clones <j)" -eq 12 ]
	[ "$(wc -l <c)" -eq 5 ]
	grep -q '</svg>' p.svg
	[ -z "$(ls -d /tmp/ramet-burst.* 2>/dev/null)" ]
	fails 2 "neither busy nor sleeping" ramet bench burst --guests lazy
	fails 1 "cannot write" ramet bench burst --count 1 --memory 16M --reps 1 --probes 0 --guests busy \
		--shells made --json /nonexistent/x
}

@test "a fork that would meet a limit is refused whole, and the parent runs on" {
	need_kvm
	(
		ulimit -n 4096
		ramet run --detach --guest count --args rate=100 --cpus 8 --memory 16M --name few
	)
	fails 1 "into 4096: it needs .* more open files, .* limit is 4096 \(ulimit -n\); the VM continues" \
		ramet fork few --count 4096
	[ "$(ramet stat few --json | field family vms)" -eq 1 ]
	ramet wait few --heartbeats 5 --timeout 20
	ramet stop --all few
}
