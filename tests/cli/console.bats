#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# The ends of a console: terminals, pipes, guests that do not listen. A fake family answers.

load common.bash

terminal() { RAMET=$RAMET timeout 100 python3 "$BATS_TEST_DIRNAME/terminal.py" "$1"; }

teardown()
{
	rm -f "$RAMET_RUNTIME_DIR/fake.sock"
	nothing_left
	no_reports
}

@test "console: a reader that goes is noticed although the guest is quiet" { terminal quiet_guest; }

@test "console: signals end it although the guest reads nothing" { terminal deaf_guest; }

@test "console: so does Ctrl-], after 400 KB were pasted" { terminal deaf_guest_terminal; }

@test "console: no input of a pipe is lost" { terminal all_typed; }

@test "console: a full disk is told" { terminal full_disk; }

@test "console: the background, the foreground, Ctrl-Z, SIGSTOP and SIGCONT" { terminal background; }
