# SPDX-License-Identifier: Apache-2.0
# What the tests of the program share. RAMET is the program; each test has a runtime directory of
# its own, and leaves nothing behind: no process, no socket, no file.

setup()
{
	export RAMET_RUNTIME_DIR=$BATS_TEST_TMPDIR/run
	export TMPDIR=$BATS_TEST_TMPDIR
	# A daemon has no stderr for what a sanitizer finds in it, leaks at its end among that.
	export ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}log_path=$BATS_TEST_TMPDIR/sanitizer
}

teardown()
{
	local family
	for family in "$RAMET_RUNTIME_DIR"/*.sock; do
		[ -e "$family" ] || continue
		family=$(basename "$family" .sock)
		timeout $((20 * slower)) "$RAMET" stop --all "$family" || true
	done
	nothing_left
	no_reports
	[ ! -d "${group:-}" ] || rmdir "$group" # a control group, of a test that failed
}

# In the emulated machine of scripts/nested all takes ten times longer; --timeout of a test is meant for
# another one, and is made longer here.
slower=${RAMET_EMULATED:+10}
slower=${slower:-1}

# What AddressSanitizer, LeakSanitizer included, has reported of any process of this test.
no_reports()
{
	local file
	for file in "$BATS_TEST_TMPDIR"/sanitizer.*; do
		[ -e "$file" ] || continue
		cat "$file"
		return 1
	done
}

ramet()
{
	local word last=''
	local -a words=()
	for word; do
		[ "$last" != --timeout ] || word=$((word * slower))
		words+=("$word")
		last=$word
	done
	timeout $((60 * slower)) "$RAMET" "${words[@]}"
}

# Processes of this test's families. They have the runtime directory in their environment.
processes()
{
	local p
	for p in /proc/[0-9]*; do
		[ "$p/exe" -ef "$RAMET" ] || continue
		tr '\0' '\n' <"$p/environ" 2>/dev/null | grep -qx "RAMET_RUNTIME_DIR=$RAMET_RUNTIME_DIR" &&
			echo "${p#/proc/}"
	done
	return 0
}

# The family's process (the one that was started as "ramet run --name NAME").
processes_serving()
{
	local p
	for p in $(processes); do
		tr '\0' ' ' <"/proc/$p/cmdline" | grep -q " run --name $1 " && echo "$p"
	done
}

# Waits up to five seconds (of a machine that is not emulated): a process that has been told to end may be ending.
nothing_left()
{
	local i
	for ((i = 0; i < 50 * slower; i++)); do
		[ -n "$(processes)" ] || [ -n "$(find "$RAMET_RUNTIME_DIR" -name '*.sock' 2>/dev/null)" ] ||
			break
		sleep 0.1
	done
	[ -z "$(processes)" ] || { echo "left running: $(processes)"; return 1; }
	[ -z "$(find "$RAMET_RUNTIME_DIR" -name '*.sock' 2>/dev/null)" ] || { echo "socket left"; return 1; }
}

# The command must fail with this status and say this (an extended regular expression) on stderr.
fails()
{
	local want=$1 text=$2
	shift 2
	run "$@"
	echo "status $status: $output"
	[ "$status" -eq "$want" ] && grep -qE "$text" <<<"$output"
}

need_kvm()
{
	[ -r "${RAMET_KVM_DEVICE:-/dev/kvm}" ] && [ -w "${RAMET_KVM_DEVICE:-/dev/kvm}" ] ||
		skip "no usable /dev/kvm"
}

# A family that counts, detached.
counter()
{
	need_kvm
	ramet run --name "$1" --memory 16M --guest count --args rate=100 --detach "${@:2}"
}

field() # FILTER...: of JSON on stdin, without jq
{
	python3 -c 'import json,sys
v = json.load(sys.stdin)
for k in sys.argv[1:]:
    v = v[int(k)] if k.lstrip("-").isdigit() else v[k]
print(v if not isinstance(v, bool) else str(v).lower())' "$@"
}
