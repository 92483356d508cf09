#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# The process of a family: how its launch, its foreground and its daemon end.

load common.bash

# Starts a command in the background, as an interactive shell does: a script's background command would
# ignore SIGINT. Its pid is $pid.
background()
{
	set -m
	"$@" 3>&- &
	pid=$!
	set +m
}

# The exit status of that command must be $1.
ended()
{
	local status=0
	wait "$pid" || status=$?
	echo "status $status"
	[ "$status" -eq "$1" ]
}

# A launch that hangs, as if a file server did not answer.
launch_hanging()
{
	! ldd "$RAMET" | grep -q libasan || skip "AddressSanitizer wants to be loaded first"
	[ -r "${HANG:-}" ] || skip "HANG is not set"
	LD_PRELOAD="$HANG" RAMET_KVM_DEVICE=/nowhere.hangs \
		background "$RAMET" run --name slow --guest count "$@" 2>"$BATS_TEST_TMPDIR/err"
	until_there "$RAMET_RUNTIME_DIR/slow.sock"
}

until_there()
{
	local i
	for ((i = 0; i < 300 * slower; i++)); do
		[ ! -e "$1" ] || return 0
		sleep 0.1
	done
	return 1
}

@test "a launch that hangs can be interrupted, and leaves nothing" {
	for sig in INT:130 TERM:143 HUP:129; do
		for how in "" --detach; do
			launch_hanging $how
			kill -"${sig%:*}" "$pid"
			ended "${sig#*:}"
			cat "$BATS_TEST_TMPDIR/err"
			grep -q "'slow' was not launched: interrupted" "$BATS_TEST_TMPDIR/err"
			nothing_left
		done
	done
}

@test "a launch ends with the command that waits for it, even if that is killed" {
	launch_hanging --detach
	kill -9 "$pid"
	wait "$pid" || true
	nothing_left
}

@test "foreground: Ctrl-C stops the VM of this terminal, its clones go on; a second one stops them" {
	need_kvm
	background "$RAMET" run --name fg --memory 16M --guest count --args rate=20 </dev/null \
		>/dev/null 2>"$BATS_TEST_TMPDIR/err"
	until_there "$RAMET_RUNTIME_DIR/fg.sock"
	ramet wait fg --timeout 20
	ramet fork fg --count 2
	kill -INT "$pid"
	until grep -q "'fg' has stopped; 2 of its clones go on" "$BATS_TEST_TMPDIR/err"; do sleep 0.1; done
	ramet wait fg.1 --heartbeats 5 --timeout 20
	fails 1 "no VM 'fg'|stopped" ramet fork fg
	kill -INT "$pid"
	ended 130
	nothing_left
}

@test "foreground: SIGTERM ends all; without clones Ctrl-C is enough" {
	need_kvm
	for sig in TERM:143 INT:130; do
		background "$RAMET" run --name fg --memory 16M --guest count --args rate=20 </dev/null >/dev/null
		until_there "$RAMET_RUNTIME_DIR/fg.sock"
		ramet wait fg --timeout 20
		[ "$sig" = INT:130 ] || ramet fork fg --count 2
		kill -"${sig%:*}" "$pid"
		ended "${sig#*:}"
		nothing_left
	done
}

@test "foreground: signals and stop --all work although the guest reads no input, or no process reads the output" {
	need_kvm
	mkfifo "$BATS_TEST_TMPDIR/out"
	exec 4<>"$BATS_TEST_TMPDIR/out"
	background "$RAMET" run --name deaf --memory 16M --guest count --args rate=20 < <(yes) >/dev/null
	until_there "$RAMET_RUNTIME_DIR/deaf.sock"
	ramet wait deaf --timeout 20
	sleep 1
	kill -INT "$pid"
	ended 130
	head -c 65536 /dev/zero >&4
	background "$RAMET" run --name mute --memory 16M --guest count --args rate=20 </dev/null >"$BATS_TEST_TMPDIR/out"
	until_there "$RAMET_RUNTIME_DIR/mute.sock"
	ramet wait mute --timeout 20
	ramet stop --all mute
	ended 0
	nothing_left
	exec 4>&-
}

@test "foreground: a full disk ends it, with a message; a reader that leaves ends it without one" {
	need_kvm
	fails 1 "writing to stdout: No space" bash -c "'$RAMET' run --guest count --memory 16M </dev/null >/dev/full"
	nothing_left
	run bash -c "'$RAMET' run --guest count --memory 16M </dev/null | true; exit \${PIPESTATUS[0]}"
	[ "$status" -eq 141 ]
	[ -z "$output" ]
}

@test "run --detach: the daemon keeps no descriptor, folder or core file" {
	need_kvm
	mkdir "$BATS_TEST_TMPDIR/there"
	(cd "$BATS_TEST_TMPDIR/there" && exec 7<"$BATS_TEST_DIRNAME" && counter web)
	pid=$(processes_serving web)
	[ "$(readlink "/proc/$pid/cwd")" = / ]
	[ -z "$(ls -l "/proc/$pid/fd" | grep -F "$BATS_TEST_DIRNAME")" ]
	[ "$(readlink "/proc/$pid/fd/2")" = /dev/null ]
	if ! grep -q libasan "/proc/$pid/maps"; then
		grep -qE '^Max core file size +0 +0' "/proc/$pid/limits"
	fi
	rmdir "$BATS_TEST_TMPDIR/there"
	ramet fork web --memory
}

@test "run --detach fails if the guest ends at once, and prints the guest's output" {
	need_kvm
	fails 7 "VM 'brief' ended at once with status 7" ramet run --name brief --guest count --args 'beats=0 status=7' --detach
	grep -q "count: hello" <<<"$output"
	nothing_left
	run ramet run --name brief --guest count --args 'beats=0' --detach
	[ "$status" -eq 0 ]
	[ "$output" = brief ]
	nothing_left
	fails 1 "dirty=2G is more than its memory, 64 MiB" ramet run --guest dirty --args dirty=2G --detach
	fails 1 "limit of 1 MiB is less than one VM's memory, 64 MiB" ramet run --guest count --limit 1M
	nothing_left
	run bash -c "timeout $((10 * slower)) '$RAMET' run --guest dirty --memory 16M --args 'dirty=16M' </dev/null"
	grep -q "this is all that is free: 0000" <<<"$output"
	nothing_left
}

@test "foreground, a terminal: Ctrl-C stops the VM, no other key does" {
	need_kvm
	timeout $((100 * slower)) python3 "$BATS_TEST_DIRNAME/terminal.py" run_keys
	nothing_left
}

# Runs only where this is allowed: it changes the permissions of users on this machine.
@test "an ordinary user's family, whose process other users cannot inspect" {
	[ -n "${RAMET_EMULATED-}" ] || skip "not an emulated machine"
	need_kvm
	! ldd "$RAMET" | grep -q libasan || skip "it can be looked into, for the leak checker"
	dir=/tmp/ordinary
	mkdir "$dir" && chown 65534 "$dir"
	cp "$RAMET" "$dir/ramet"
	chmod 755 / /tmp "$dir"
	chmod 666 /dev/kvm
	echo 1 >/proc/sys/vm/unprivileged_userfaultfd
	mkdir -m 700 "$dir/run" && chown 65534 "$dir/run"
	as()
	{
		TMPDIR=$dir RAMET_RUNTIME_DIR=$dir/run python3 -c 'import os, sys
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
os.execv(sys.argv[1], sys.argv[1:])' "$dir/ramet" "$@"
	}
	as run --name his --memory 16M --guest dirty --detach
	[ "$(stat -c %u "/proc/$(pidof ramet)/mem")" -eq 0 ]
	as wait his --timeout 100
	as fork his --count 2 --memory
	as reset his.1
	as stat his.2
	as fork his.1
	as list
	as stop --all his
	rm -r "$dir"
}

@test "limits of the process: an error names the one that was too low, and nothing is left" {
	need_kvm
	limited() { bash -c "ulimit $1 && exec '$RAMET' run --guest count --memory 64M" </dev/null; }
	fails 1 "size of files is limited \(ulimit -f\)" limited "-f 1000"
	fails 1 "raise the limit of open files \(ulimit -n\)" limited "-n 24"
	ldd "$RAMET" | grep -qE 'lib[at]san' || # a sanitizer's own reservations would fail first
		fails 1 "address space of this process is limited \(ulimit -v\)" limited "-v 1000000"
	nothing_left
}
