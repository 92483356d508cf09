#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# The control socket: which users may connect, and how it handles input that no ramet command sends.

load common.bash

# Processes that a test has started besides ramet. They must end, otherwise bats waits for them.
eval "common_$(declare -f teardown)"
teardown()
{
	ends_helpers
	common_teardown
}

ends_helpers()
{
	local p
	for p in $(cat "$BATS_TEST_TMPDIR/helpers" 2>/dev/null); do
		kill -CONT "$p" && kill -9 "$p" && wait "$p" || true
	done 2>/dev/null
	rm -f "$BATS_TEST_TMPDIR/helpers"
}

@test "the socket is in a directory for its owner only" {
	counter web
	[ "$(stat -c %a "$RAMET_RUNTIME_DIR")" = 700 ]
	[ -S "$RAMET_RUNTIME_DIR/web.sock" ]
}

@test "hostile input is refused, and other clients do not suffer" {
	counter web
	python3 "$BATS_TEST_DIRNAME/hostile.py" "$RAMET_RUNTIME_DIR/web.sock" web
	ramet wait web --heartbeats 5 --timeout 20
}

@test "a very long runtime directory works" {
	long=$BATS_TEST_TMPDIR/$(printf 'x%.0s' {1..200})
	mkdir -p "$long"
	export RAMET_RUNTIME_DIR=$long/run
	counter web
	ramet stat web >/dev/null
	ramet stop web
	nothing_left
}

@test "many clients at once" {
	counter web
	for i in {1..20}; do
		ramet wait web --heartbeats 30 --timeout 30 &
	done
	ramet fork web --count 5
	ramet list >/dev/null
	for job in $(jobs -p); do
		wait "$job"
	done
}

# Not all machines have a setpriv that can change the user.
as_nobody()
{
	python3 -c 'import os, sys
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
os.execv(sys.argv[1], sys.argv[1:])' "$@"
}

@test "another user cannot talk to a family" {
	[ "$(id -u)" -eq 0 ] || skip "needs root, to become another user"
	counter web
	fails 1 "." as_nobody "$RAMET" stat web
	# Even if the directory lets other users in.
	chmod 755 "$RAMET_RUNTIME_DIR" && chmod 777 "$RAMET_RUNTIME_DIR/web.sock"
	run as_nobody /usr/bin/python3 -c '
import os, socket, sys
s = socket.socket(socket.AF_UNIX)
s.settimeout(10)
try:
    s.connect(sys.argv[1])
    s.sendall(b"{\"op\":\"list\"}\n")
    sys.exit(5 if s.recv(1) else 0)
except OSError:
    sys.exit(0)
' "$RAMET_RUNTIME_DIR/web.sock"
	chmod 700 "$RAMET_RUNTIME_DIR"
	echo "status $status: $output"
	[ "$status" -eq 0 ]
}

@test "clones are not stopped with their parent, even if the parent stops during the fork" {
	counter web
	ramet wait web --heartbeats 2 --timeout 60
	ramet fork web --count 30 >"$BATS_TEST_TMPDIR/clones" 2>"$BATS_TEST_TMPDIR/err" &
	fork=$!
	# As soon as one clone is listed: the fork still waits for the others.
	until ramet list --json | grep -q '"web.1"'; do :; done
	ramet stop web
	status=0
	wait $fork || status=$?
	cat "$BATS_TEST_TMPDIR"/{clones,err}
	[ "$status" -eq 0 ]
	ramet wait web.30 --heartbeats 3 --timeout 60
	[ "$(ramet list --json | grep -c '"running"')" -eq 30 ]
}

@test "a detached family whose last VM goes wrong stays until it is stopped" {
	need_kvm
	ramet run --name rb --memory 16M --guest count --args 'rate=100 beats=300 status=7' --detach
	ramet wait rb --stopped --timeout 60
	[ "$(ramet stat rb --json | field vm exit_status)" = 7 ]
	sleep 1
	ramet list | grep -x "rb ended with status 7"
	[ "$(ramet list --json | field 0 state)" = stopped ]
	ramet wait rb --stopped --timeout 0
	fails 1 "VM 'rb' has ended, with status 7" ramet fork rb
	fails 1 "'rb' is taken: its process has stayed .*VM 'rb' ended with status 7.*'ramet stop --all rb'" \
		ramet run --name rb --guest count
	ramet console rb </dev/null | grep -q "^count"
	ramet stop rb
	nothing_left
	# If the last VM ends with status 0, the family's process ends, too.
	ramet run --name fine --memory 16M --guest count --args 'rate=100 beats=300' --detach
	ramet wait fine --stopped --timeout 60 || true
	nothing_left
	# The process also ends if a clone went wrong before.
	ramet run --name p --memory 16M --guest count --args 'rate=100 beats=500 status=7' --detach
	ramet fork p --count 2
	ramet pause p.2
	ramet wait p.1 --stopped --timeout 60
	ramet list | grep -x "p.1 ended with status 7"
	ramet stop p.2
	ramet stop p || true # it may have ended itself
	! ramet list --json | grep running
}

@test "a file with a socket's name that is no socket is named in an error, and left alone" {
	mkdir -m 700 "$RAMET_RUNTIME_DIR"
	mkdir "$RAMET_RUNTIME_DIR/d.sock"
	ln -s nowhere "$RAMET_RUNTIME_DIR/l.sock"
	touch "$RAMET_RUNTIME_DIR/f.sock"
	for name in d l f; do
		fails 1 "run/$name.sock is in the way: it is no socket" ramet stat $name
		fails 1 "run/$name.sock is in the way: it is no socket" ramet run --name $name --guest count
	done
	[ -d "$RAMET_RUNTIME_DIR/d.sock" ] && [ -L "$RAMET_RUNTIME_DIR/l.sock" ] &&
		[ -f "$RAMET_RUNTIME_DIR/f.sock" ]
	rm -r "$RAMET_RUNTIME_DIR"/*.sock
}

# A helper that holds the lock of the runtime directory for $1 seconds.
holds_lock()
{
	python3 -c 'import fcntl, os, sys, time
fcntl.flock(os.open(sys.argv[1], os.O_RDONLY), fcntl.LOCK_EX)
print("locked", flush=True)
time.sleep(float(sys.argv[2]))' "$RAMET_RUNTIME_DIR" "$1" >"$BATS_TEST_TMPDIR/lock" 3>&- &
	helper=$!
	echo $helper >>"$BATS_TEST_TMPDIR/helpers"
	until [ -s "$BATS_TEST_TMPDIR/lock" ]; do sleep 0.1; done
}

# A helper that listens as family $1, and sends $2 to each client, but nothing more.
pretends()
{
	python3 -c 'import os, socket, sys, time
os.chdir(sys.argv[1])
s = socket.socket(socket.AF_UNIX)
s.bind(sys.argv[2] + ".sock")
s.listen(50)
kept = []
while True:
    kept.append(s.accept()[0])
    kept[-1].sendall(sys.argv[3].encode())' "$RAMET_RUNTIME_DIR" "$1" "$2" 3>&- &
	helper=$!
	echo $helper >>"$BATS_TEST_TMPDIR/helpers"
	until [ -S "$RAMET_RUNTIME_DIR/$1.sock" ]; do sleep 0.1; done
	sleep 0.5 # it listens a moment later
}

# The command must still be waiting when it is killed, and must have printed this text by then.
waits_and_says()
{
	local text=$1
	shift
	run timeout -s INT 5 "$RAMET" "$@"
	echo "status $status: $output"
	# 130: from a timeout(1) that is not the one of coreutils
	[ "$status" -eq 124 ] || [ "$status" -eq 130 ]
	grep -q "$text" <<<"$output"
}

@test "if another process keeps the lock, a command waits for it, but not for ever" {
	mkdir -m 700 "$RAMET_RUNTIME_DIR"
	holds_lock 60
	fails 1 "process $helper has held the lock of .*/run for more than 5 s" ramet stat web
	ends_helpers
	holds_lock 2
	fails 1 "there is no family 'web'" ramet stat web
}

@test "families that do not answer: list skips them, brief commands fail, long ones print a message" {
	mkdir -m 700 "$RAMET_RUNTIME_DIR"
	pretends silent ''
	pretends half '{"ok":tr'
	pretends stopped ''
	kill -STOP $helper
	run ramet list
	echo "$output"
	[ "$status" -eq 1 ]
	[ "$(grep -c "family 'stopped' does not answer: its process $helper is stopped" <<<"$output")" -eq 1 ]
	for name in silent half; do
		grep -q "family '$name' does not answer (process [0-9]*); is it still being launched" <<<"$output"
	done
	for command in stat pause resume reset; do
		fails 1 "does not answer: its process $helper is stopped; 'kill -CONT" ramet $command stopped
	done
	fails 1 "'stopped' is taken" ramet run --name stopped --guest count
	for command in wait fork stop "stop --all" console; do
		waits_and_says "'stopped' does not answer, since it is stopped .*; waiting, Ctrl-C ends that" \
			$command stopped
	done
	waits_and_says "" wait half
	ends_helpers
	rm "$RAMET_RUNTIME_DIR"/*.sock
}

@test "a client that is turned away tries again for a while" {
	mkdir -m 700 "$RAMET_RUNTIME_DIR"
	pretends busy '{"ok":false,"errno":11,"code":"EAGAIN","error":"too many clients","busy":true}
'
	fails 1 "too many clients" ramet stat busy
	ends_helpers
	rm "$RAMET_RUNTIME_DIR"/*.sock
}
