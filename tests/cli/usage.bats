#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Cases that need no VM: help, usage, bad options, no KVM.

load common.bash

@test "help, version and examples are there for every command" {
	run ramet --help
	[ "$status" -eq 0 ]
	commands=$(sed -n 's/^  \([a-z]*\)  *[a-z].*/\1/p' <<<"$output" | grep -v ramet)
	[ "$(wc -w <<<"$commands")" -ge 12 ]
	for c in $commands; do
		ramet help "$c" | grep -q "ramet $c"
		ramet "$c" --help >/dev/null
	done
	for c in clone reset recover churn; do
		ramet bench "$c" --help | grep -q Example
	done
	ramet --version | grep -qE '^ramet [0-9]+\.[0-9]+'
}

@test "no command, unknown commands and unknown options are refused" {
	fails 2 "which command" ramet
	fails 2 "no command 'frok'" ramet frok
	fails 2 "no option '--frok'" ramet --frok
	fails 2 "no command 'nothing'" ramet help nothing
	fails 2 "unrecognized option '--frok'" ramet run --frok
	fails 2 "no command 'frok'" ramet bench frok
	fails 2 "which VM" ramet stat
	fails 2 "one VM at a time" ramet stat a b
}

@test "bad sizes are refused" {
	for size in 1 15M 65G 64X -1 "" 99999999999999999999 1.5G; do
		fails 2 "memory: .*(size|range)" ramet run --guest count "--memory=$size"
	done
	fails 2 "multiple of 2M" ramet run --guest count --memory 17M
	for cpus in 0 9 -1 x ""; do
		fails 2 "cpus: .*(number|range)" ramet run --guest count "--cpus=$cpus"
	done
	fails 2 "dirty: .*sizes" ramet bench clone --dirty 1M,,2M
	fails 2 "memory: .*range" ramet bench clone --memory 1M
	fails 1 "nothing to measure" ramet bench clone --memory 16M --dirty 64M
	fails 2 "not an address" ramet dump x --gpa 12q --size 1
	fails 2 "count: .*range" ramet fork x --count 0
	fails 2 "count: .*range" ramet fork x --count 5000
}

@test "unknown guests, bad names and contradictions are refused" {
	fails 2 "no built-in guest 'nosuch'; take count, dirty, .* or [a-z]+$" ramet run --guest nosuch
	fails 2 "guest 'count' knows no 'bogus'; it takes rate=N" ramet run --guest count --args 'rate=10 bogus=1'
	fails 2 "guest 'count' does not understand 'rate=x'" ramet run --args rate=x --guest count
	fails 2 "cannot be a name" ramet run --guest count --name a.b
	fails 2 "cannot be a name" ramet run --guest count --name ../x
	fails 2 "cannot be a name" ramet run --guest count --name ''
	fails 2 "either --guest or --kernel" ramet run
	fails 2 "either --guest or --kernel" ramet run --guest count --kernel /dev/null
	fails 2 "go with --kernel" ramet run --guest count --initrd /dev/null
	fails 2 "go with --kernel" ramet run --guest count --disk /dev/null
	fails 1 "cannot be a VM's name" ramet stat ../../etc/passwd
}

@test "without /dev/kvm: an error, and no file or process is left" {
	export RAMET_KVM_DEVICE=$BATS_TEST_TMPDIR/nokvm
	fails 1 "nokvm" ramet run --guest count
	fails 1 "nokvm" ramet run --guest count --detach
	fails 1 "nokvm" ramet bench clone --memory 16M --dirty 1M
	: >"$BATS_TEST_TMPDIR/nokvm"
	fails 1 "nokvm is not a KVM device" ramet run --guest count
	export RAMET_KVM_DEVICE=/dev/null
	fails 1 "/dev/null is not a KVM device" ramet run --guest count
}

@test "without permission for /dev/kvm: says so" {
	[ "$(id -u)" -eq 0 ] || skip "needs root, to become another user"
	[ -e /dev/kvm ] || skip "no /dev/kvm"
	device=$BATS_TEST_TMPDIR/kvm
	# Other users cannot enter the folders of bats.
	dir=$(mktemp -d /tmp/ramet-cli.XXXXXX)
	cp "$RAMET" "$dir/ramet"
	mkdir -m 700 "$dir/run"
	: >"$dir/kvm"
	chmod 600 "$dir/kvm"
	chmod 755 "$dir"
	chown 65534 "$dir/run"
	fails 1 "[Pp]ermission" env RAMET_RUNTIME_DIR="$dir/run" RAMET_KVM_DEVICE="$dir/kvm" \
		setpriv --reuid=65534 --regid=65534 --clear-groups "$dir/ramet" run --guest count
	[ -z "$(ls "$dir/run")" ]
	rm -r "$dir"
}

@test "a runtime directory that others can enter is refused" {
	mkdir -m 755 "$RAMET_RUNTIME_DIR"
	fails 1 "not yours alone" ramet list
	fails 1 "not yours alone" ramet run --guest count
	chmod 700 "$RAMET_RUNTIME_DIR"
	ramet list
	rmdir "$RAMET_RUNTIME_DIR"
	ln -s /tmp "$RAMET_RUNTIME_DIR"
	fails 1 "cannot open the runtime directory" ramet list
	rm "$RAMET_RUNTIME_DIR"
}

@test "commands for families that do not exist say so" {
	for c in stat fork pause resume stop reset wait console; do
		fails 1 "no family 'ghost'" ramet "$c" ghost
	done
	fails 1 "no family 'ghost'" ramet stop --all ghost
	fails 1 "no family 'ghost'" ramet dump ghost --size 1
	[ "$(ramet list --json)" = "[]" ]
	[ -z "$(ramet list 2>/dev/null)" ]
	[ "$(ramet list 2>&1)" = "no VMs" ]
	fails 2 "timeout: '1,5' is no number of seconds" "$RAMET" wait ghost --timeout 1,5
	fails 1 "no family 'ghost'" "$RAMET" wait ghost --timeout 0.5
}

@test "output that cannot be written is a failure, and a reader that leaves is none" {
	for c in "--help" "--version" "list --help" "list --json" "bench" "help fork"; do
		fails 1 "writing to stdout: No space left" bash -c "'$RAMET' $c >/dev/full"
	done
	fails 1 "writing to stdout: Bad file descriptor" bash -c "'$RAMET' --help >&-"
	run bash -c "'$RAMET' list 2>&- >&- <&-" # nothing to say: nothing lost
	[ "$status" -eq 0 ]
	run bash -c "'$RAMET' --help | true; exit \${PIPESTATUS[0]}"
	[ "$status" -eq 141 ] || [ "$status" -eq 0 ]
	[ -z "$output" ]
}

@test "a suggestion for a mistyped command; -h and --version for every command" {
	fails 2 "no command 'runn'; did you mean 'run'" ramet runn
	fails 2 "no command 'kill'; did you mean 'stop'" ramet kill
	fails 2 "no command 'xyzzy'; see" ramet xyzzy
	fails 2 "no command 'nosuch'" ramet help bench nosuch
	fails 2 "no command 'nosuch'" ramet bench nosuch --help
	fails 2 "one command at a time" ramet help run fork
	ramet help bench churn | grep -q 'ramet bench churn'
	[ "$(ramet ls --json)" = "[]" ]
	for c in run fork list stat console pause stop wait dump "bench clone"; do
		ramet $c -h | grep -q "^Usage: ramet $c"
		ramet $c --version | grep -qE '^ramet [0-9]'
	done
	fails 2 "limit: 0 is out of range; take at least 1M" ramet run --guest count --limit 0
}
