#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# The process of a family: how its launch, its foreground and its daemon end.

load common.bash

# A launch that hangs, as on a file server that does not answer. A shell's background job ignores
# SIGINT; env makes it as it was.
launch_hanging()
{
	! ldd "$RAMET" | grep -q libasan || skip "AddressSanitizer wants to be loaded first"
	[ -r "${HANG:-}" ] || skip "HANG is not set"
	env --default-signal=INT LD_PRELOAD="$HANG" RAMET_KVM_DEVICE=/nowhere.hangs \
		"$RAMET" run --name slow --guest count "$@" 2>"$BATS_TEST_TMPDIR/err" &
	pid=$!
	until_there "$RAMET_RUNTIME_DIR/slow.sock"
}

until_there()
{
	local i
	for ((i = 0; i < 100; i++)); do
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
			status=0
			wait "$pid" || status=$?
			cat "$BATS_TEST_TMPDIR/err"
			[ "$status" -eq "${sig#*:}" ]
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
	env --default-signal=INT "$RAMET" run --name fg --memory 16M --guest count --args rate=20 </dev/null \
		>/dev/null 2>"$BATS_TEST_TMPDIR/err" &
	pid=$!
	until_there "$RAMET_RUNTIME_DIR/fg.sock"
	ramet wait fg --timeout 20
	ramet fork fg --count 2
	kill -INT "$pid"
	until grep -q "'fg' has stopped; 2 of its clones go on" "$BATS_TEST_TMPDIR/err"; do sleep 0.1; done
	ramet wait fg.1 --heartbeats 5 --timeout 20
	fails 1 "no VM 'fg'|stopped" ramet fork fg
	kill -INT "$pid"
	status=0
	wait "$pid" || status=$?
	[ "$status" -eq 130 ]
	nothing_left
}

@test "foreground: SIGTERM ends all; without clones Ctrl-C is enough" {
	need_kvm
	for sig in TERM:143 INT:130; do
		env --default-signal=INT "$RAMET" run --name fg --memory 16M --guest count --args rate=20 </dev/null \
			>/dev/null &
		pid=$!
		until_there "$RAMET_RUNTIME_DIR/fg.sock"
		ramet wait fg --timeout 20
		[ "$sig" = INT:130 ] || ramet fork fg --count 2
		kill -"${sig%:*}" "$pid"
		status=0
		wait "$pid" || status=$?
		[ "$status" -eq "${sig#*:}" ]
		nothing_left
	done
}

@test "foreground: input that the guest does not read, output that nobody reads: signals and stop --all" {
	need_kvm
	mkfifo "$BATS_TEST_TMPDIR/out"
	exec 4<>"$BATS_TEST_TMPDIR/out"
	# count beats without a word; verify talks. Its pipe is full at some time.
	(yes | env --default-signal=INT "$RAMET" run --name deaf --memory 16M --guest count --args rate=20 >/dev/null) 3>&- 4>&- &
	until_there "$RAMET_RUNTIME_DIR/deaf.sock"
	ramet wait deaf --timeout 20
	sleep 1
	kill -INT "$(processes_serving deaf)"
	nothing_left
	head -c 65536 /dev/zero >&4
	"$RAMET" run --name mute --memory 16M --guest count --args rate=20 </dev/null >"$BATS_TEST_TMPDIR/out" 3>&- 4>&- &
	pid=$!
	until_there "$RAMET_RUNTIME_DIR/mute.sock"
	ramet wait mute --timeout 20
	ramet stop --all mute
	status=0
	wait "$pid" || status=$?
	[ "$status" -eq 0 ]
	nothing_left
	exec 4>&-
}

@test "foreground: a full disk ends it, with a word; a reader that goes, without" {
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
	! ls -l "/proc/$pid/fd" | grep -F "$BATS_TEST_DIRNAME"
	[ "$(readlink "/proc/$pid/fd/2")" = /dev/null ]
	if ! ldd "$RAMET" | grep -q libasan; then
		grep -qE '^Max core file size +0 +0' "/proc/$pid/limits"
	fi
	rmdir "$BATS_TEST_TMPDIR/there"
	ramet fork web --memory
}
