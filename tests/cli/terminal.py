#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Usage: terminal.py TEST, with RAMET and RAMET_RUNTIME_DIR set.

What a console does to the terminal, pipe or guest at its ends. Its family is a fake one, served
here, which accepts a console and then does what the test wants: no KVM is needed."""
import fcntl
import json
import os
import select
import signal
import socket
import subprocess
import sys
import termios
import threading
import time

RAMET = os.environ["RAMET"]
DIR = os.environ["RAMET_RUNTIME_DIR"]


class Family:
    """Accepts consoles; got is what their users typed, unless it is deaf."""

    def __init__(self, deaf=False):
        os.makedirs(DIR, mode=0o700, exist_ok=True)
        self.path = DIR + "/fake.sock"
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen()
        self.deaf, self.got, self.peers = deaf, b"", []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            peer, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=(peer,), daemon=True).start()

    def serve(self, peer):
        line = peer.makefile("rb", buffering=0).readline()
        if not line: # a look whether the name is taken
            return
        assert json.loads(line)["op"] == "console", line
        peer.sendall(b'{"ok":true}\n' + b"hello\n")
        self.peers.append(peer)
        while not self.deaf:
            data = peer.recv(65536)
            if not data:
                return
            self.got += data

    def say(self, data):
        for peer in self.peers:
            peer.sendall(data)


def until(what, condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise SystemExit(f"not in {seconds} s: {what}")
        time.sleep(0.05)


def ends(process, seconds=20):
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        raise SystemExit("the console does not end") from None


class Terminal:
    """A pseudo terminal whose session has a leader that does nothing, as a shell that waits, and a
    console in a process group of its own, which is in the foreground only if asked for."""

    def __init__(self, foreground, command=("console", "fake")):
        self.master, self.slave = os.openpty()
        self.cooked = termios.tcgetattr(self.slave)
        self.seen = b""
        report, answer = os.pipe()
        self.leader = os.fork()
        if self.leader == 0:
            os.setsid()
            signal.alarm(600) # its end hangs up on what a failed test leaves
            fcntl.ioctl(self.slave, termios.TIOCSCTTY, 0)
            signal.signal(signal.SIGTTOU, signal.SIG_IGN)
            child = os.fork()
            if child == 0:
                os.setpgid(0, 0)
                if foreground:
                    os.tcsetpgrp(self.slave, os.getpid())
                signal.signal(signal.SIGTTOU, signal.SIG_DFL)
                for fd in (0, 1, 2):
                    os.dup2(self.slave, fd)
                os.execv(RAMET, [RAMET, *command])
            signal.signal(signal.SIGUSR1, lambda *_: os.tcsetpgrp(self.slave, child))
            os.write(answer, b"%d\n" % child)
            stopped = True
            while stopped: # what happens to the console
                _, status = os.waitpid(child, os.WUNTRACED)
                stopped = os.WIFSTOPPED(status)
                os.write(answer, b"stopped\n" if stopped else
                         b"exited %d\n" % os.waitstatus_to_exitcode(status))
            time.sleep(60) # with it, the terminal would hang up
            os._exit(0)
        os.close(answer)
        self.report = os.fdopen(report, "rb", buffering=0)
        self.pid = int(self.report.readline())

    def event(self, seconds=20):
        """What happened to the process next, or None."""
        if not select.select([self.report], [], [], seconds)[0]:
            return None
        return self.report.readline().decode().strip()

    def read(self):
        while select.select([self.master], [], [], 0)[0]:
            self.seen += os.read(self.master, 65536)
        return self.seen

    def raw(self):
        return not termios.tcgetattr(self.slave)[3] & termios.ICANON

    def cook(self):
        termios.tcsetattr(self.slave, termios.TCSANOW, self.cooked)

    def type(self, keys):
        os.write(self.master, keys)

    def to_foreground(self):
        os.kill(self.leader, signal.SIGUSR1)

    def close(self):
        os.kill(self.leader, signal.SIGKILL)
        os.waitpid(self.leader, 0)


def quiet_guest():
    """A reader that goes is noticed even if the guest says nothing."""
    Family()
    console = subprocess.Popen([RAMET, "console", "fake"], stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE)
    assert console.stdout.readline() == b"hello\n"
    console.stdout.close()
    assert ends(console) == 128 + signal.SIGPIPE


def deaf_guest():
    """Signals end a console whose guest does not read its input."""
    Family(deaf=True)
    for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        yes = subprocess.Popen(["yes"], stdout=subprocess.PIPE)
        console = subprocess.Popen([RAMET, "console", "fake"], stdin=yes.stdout,
                                   stdout=subprocess.DEVNULL)
        yes.stdout.close()
        time.sleep(1) # until no more is taken
        console.send_signal(sig)
        assert ends(console) == 128 + sig, sig
        ends(yes)


def deaf_guest_terminal():
    """So does the key, however much was pasted before it."""
    Family(deaf=True)
    t = Terminal(foreground=True)
    until("raw", t.raw)
    paste, end = b"x" * 400000, time.monotonic() + 60
    os.set_blocking(t.master, False)
    while paste and time.monotonic() < end:
        select.select([], [t.master], [], 1)
        try:
            paste = paste[os.write(t.master, paste):]
        except BlockingIOError:
            pass
        t.read()
    assert not paste, f"{len(paste)} bytes were not taken"
    t.type(b"\x1d")
    assert t.event() == "exited 0"
    assert not t.raw()
    t.close()


def all_typed():
    """Nothing of a pipe's input is lost, however slowly the guest takes it."""
    family = Family(deaf=True)
    data = bytes(range(256)) * 4096
    console = subprocess.Popen([RAMET, "console", "fake"], stdin=subprocess.PIPE,
                               stdout=subprocess.DEVNULL)
    threading.Thread(target=lambda: (console.stdin.write(data), console.stdin.close()),
                     daemon=True).start()
    until("a console", lambda: family.peers)
    time.sleep(1)
    got = b""
    while len(got) < len(data):
        got += family.peers[0].recv(65536)
    assert got == data
    family.peers[0].close()
    assert ends(console) == 0


def full_disk():
    """Output that cannot be written is told."""
    Family()
    with open("/dev/full", "wb") as full:
        console = subprocess.run([RAMET, "console", "fake"], stdin=subprocess.DEVNULL,
                                 stdout=full, stderr=subprocess.PIPE, timeout=20)
    assert console.returncode == 1
    assert b"writing to stdout: No space left" in console.stderr, console.stderr


def background():
    """In the background neither the console nor the terminal is touched; in the foreground, and
    after it was stopped, the terminal is raw, and Ctrl-Z and Ctrl-C are the guest's."""
    family = Family()
    t = Terminal(foreground=False)
    until("hello", lambda: b"hello" in t.read())
    assert t.event(1) is None, "it was stopped in the background"
    assert not t.raw()
    t.to_foreground()
    until("raw in the foreground", t.raw)
    t.type(b"a\x1a\x03\x1cb")
    until("the keys", lambda: family.got == b"a\x1a\x03\x1cb")
    os.kill(t.pid, signal.SIGTSTP) # as if another process asked the command to stop
    assert t.event(1) is None
    os.kill(t.pid, signal.SIGSTOP)
    assert t.event() == "stopped"
    t.cook() # as shells do
    os.kill(t.pid, signal.SIGCONT)
    until("raw after SIGCONT", t.raw)
    t.type(b"\x1d")
    assert t.event() == "exited 0"
    assert termios.tcgetattr(t.slave) == t.cooked
    assert b"goes on running" in t.read()
    t.close()


def run_keys():
    """In ramet run Ctrl-C stops the VM; all other keys are the guest's. Needs KVM."""
    t = Terminal(True, ("run", "--name", "keys", "--memory", "16M", "--guest", "count", "--args", "rate=20"))
    until("hello", lambda: b"count: hello" in t.read(), 90)
    assert t.raw()
    t.type(b"a\x1d\x1ab")
    assert t.event(2) is None
    t.type(b"\x03")
    assert t.event(90) == "exited 130"
    assert termios.tcgetattr(t.slave) == t.cooked
    t.close()


TESTS = [quiet_guest, deaf_guest, deaf_guest_terminal, all_typed, full_disk, background, run_keys]

if __name__ == "__main__":
    {t.__name__: t for t in TESTS}[sys.argv[1]]()
