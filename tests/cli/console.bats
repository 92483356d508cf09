#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# The user's end of a console: terminals, pipes, guests that read no input. A fake family answers.

load common.bash

terminal() { RAMET=$RAMET timeout 100 python3 "$BATS_TEST_DIRNAME/terminal.py" "$1"; }

teardown()
{
	rm -f "$RAMET_RUNTIME_DIR/fake.sock"
	nothing_left
	no_reports
}

@test "console: it ends when its reader leaves, although the guest prints nothing" { terminal quiet_guest; }

@test "console: signals end it although the guest reads nothing" { terminal deaf_guest; }

@test "console: Ctrl-] ends it although the guest reads nothing, after 400 KB were pasted" { terminal deaf_guest_terminal; }

@test "console: no input of a pipe is lost" { terminal all_typed; }

@test "console: a full disk gives an error message" { terminal full_disk; }

@test "console: the background, the foreground, Ctrl-Z, SIGSTOP and SIGCONT" { terminal background; }
