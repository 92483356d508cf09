#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Sends a family's control socket what no client of ours would. hostile.py SOCKET NAME

Exits 0 when every answer was a refusal and the family still serves. Connections are made through
/proc/self/fd, because the socket's path may be long.
"""
import json
import os
import random
import socket
import sys
import time

directory = os.open(os.path.dirname(sys.argv[1]), os.O_RDONLY)
PATH = f"/proc/self/fd/{directory}/{os.path.basename(sys.argv[1])}"
NAME = sys.argv[2]


def connect():
    s = socket.socket(socket.AF_UNIX)
    s.connect(PATH)
    s.settimeout(20)
    return s


def talk(data, close_early=False):
    with connect() as s:
        try:
            s.sendall(data)
            if close_early:
                return None
            s.shutdown(socket.SHUT_WR)
            answer = b""
            while chunk := s.recv(65536):
                answer += chunk
            return answer
        except (BrokenPipeError, ConnectionResetError):
            return b""


def refused(data):
    answer = talk(data)
    assert answer is not None
    for line in answer.splitlines():
        reply = json.loads(line)
        assert reply["ok"] is False and reply["error"] and reply["code"][0] == "E", (data[:80], line)
    return answer


def serves():
    answer = talk(json.dumps({"op": "stat", "vm": NAME}).encode() + b"\n")
    assert json.loads(answer)["ok"] is True, answer


BAD = [
    b"\n", b"{}\n", b"[]\n", b"null\n", b'"x"\n', b"{\n", b"{}}\n", b"\xff\xfe\n", b"\0" * 100 + b"\n",
    b'{"op":1}\n', b'{"op":"nosuch"}\n', b'{"op":"stat"}\n', b'{"op":"stat","vm":1}\n',
    b'{"op":"stat","vm":"\\u0000"}\n', b'{"op":"stat","op":"list"}\n',
    b'{"op":"stat","vm":"' + NAME.encode() + b'","more":1}\n',
    b'{"op":"list","x":1}\n', b'{"op":"stop-all","x":1}\n', b'{"op":"hello","vm":"x"}\n', b'{"op":"stat"',
    b'{"op":"fork","vm":"' + NAME.encode() + b'","count":0}\n',
    b'{"op":"fork","vm":"' + NAME.encode() + b'","count":-1}\n',
    b'{"op":"fork","vm":"' + NAME.encode() + b'","count":1000000}\n',
    b'{"op":"fork","vm":"' + NAME.encode() + b'","count":1e3}\n',
    b'{"op":"fork","vm":"' + NAME.encode() + b'","count":99999999999999999999}\n',
    b'{"op":"read","vm":"' + NAME.encode() + b'","gpa":-1,"size":1}\n',
    b'{"op":"read","vm":"' + NAME.encode() + b'","gpa":0,"size":0}\n',
    b'{"op":"read","vm":"' + NAME.encode() + b'","gpa":0,"size":9223372036854775807}\n',
    b'{"op":"read","vm":"' + NAME.encode() + b'","gpa":9223372036854775807,"size":4096}\n',
    b'{"op":"wait","vm":"' + NAME.encode() + b'","event":"doom"}\n',
    b'{"op":"wait","vm":"' + NAME.encode() + b'","event":"stopped","timeout_ms":0}\n',
    b'{"op":"wait","vm":"' + NAME.encode() + b'","event":"heartbeats","value":-1}\n',
    b"[" * 4000 + b"\n",
    b'{"op":' * 600 + b"\n",
    b"x" * 5000, b"x" * (1 << 20) + b"\n",
]
for bad in BAD:
    refused(bad)
    talk(bad, close_early=True)
serves()

rng = random.Random(1)
good = json.dumps({"op": "stat", "vm": NAME}).encode() + b"\n"
for _ in range(300):
    data = bytearray(good)
    for _ in range(rng.randint(1, 4)):
        data[rng.randrange(len(data))] = rng.randrange(256)
    talk(bytes(data), close_early=rng.random() < 0.3)
serves()

# The error names the field.
for bad, says in [
    (b'{"op":"list","x":1}', "'list' has no field 'x'"),
    (b'{"op":"stat","vm":1}', "'vm' must be a string"),
    (b'{"op":"read","vm":"x","gpa":-1,"size":1}', "'gpa' must be"),
    (b'{"op":"stat","op":"list"}', "the same key twice"),
    (b'{"op":"fork","vm":"x","count":99999999999999999999}', "a number that is too large"),
]:
    assert says in json.loads(refused(bad))["error"], bad


# More silent clients than places: brief requests succeed, and clients that are turned away get an error.
def reply_of(request):
    with connect() as s:
        try:
            s.sendall(json.dumps(request).encode() + b"\n")
        except BrokenPipeError:
            pass
        return json.loads(s.makefile().readline())


silent = [connect() for _ in range(80)]
for _ in range(200):
    reply = reply_of({"op": "list"})
    if reply["ok"]:
        break
    assert reply["code"] == "EAGAIN" and reply["busy"], reply
    time.sleep(0.1)
assert reply["ok"], reply
for s in silent:
    s.close()
for _ in range(200):
    reply = reply_of({"op": "hello"})
    if reply["ok"]:
        break
    time.sleep(0.1)
assert reply["protocol"] == 1 and reply["ended"] is None, reply
serves()

# A client that has shut down its sending side still gets its reply, even with a far deadline or without a last newline.
beats = json.loads(talk(good))["vm"]["heartbeats"]
for timeout in 18446744073710, 9223372036854775807, -1:
    wait = {"op": "wait", "vm": NAME, "event": "heartbeats", "value": beats + 20, "timeout_ms": timeout}
    reply = json.loads(talk(json.dumps(wait).encode()))
    assert reply["ok"] and reply["vm"]["heartbeats"] >= beats + 20, reply
    assert reply["vm"]["private_bytes"] is None and reply["vm"]["exit_status"] is None, reply
    beats = reply["vm"]["heartbeats"]

# Several requests in one packet, and one in many.
many = talk(good * 20)
assert len(many.splitlines()) == 20, many
with connect() as s:
    for byte in good:
        s.send(bytes([byte]))
    assert json.loads(s.makefile().readline())["ok"] is True
