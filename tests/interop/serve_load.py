#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A bounded load on a running `lowbit serve`, loopback only: well-formed requests of every kind among clients that hang
up, bodies that are too long, JSON that is none, and wrong keys.

    serve_load.py URL KEY MAX_BODY_BYTES [requests=200] [concurrency=8]

Exits 1, with a sentence for each, when a well-formed request is not answered, an ill-formed one is not refused as it
should be, or a sequence or a place in the line is still taken afterwards.
"""
import json
import random
import socket
import sys
import threading
import time
import urllib.parse

url, key, max_body = sys.argv[1], sys.argv[2], int(sys.argv[3])
total = int(sys.argv[4]) if len(sys.argv) > 4 else 200
concurrency = int(sys.argv[5]) if len(sys.argv) > 5 else 8
place = urllib.parse.urlsplit(url)
assert place.hostname in ("127.0.0.1", "::1", "localhost"), "loopback only"

failures, counts, lock = [], {}, threading.Lock()


def fail(sentence):
    with lock:
        failures.append(sentence)


def count(kind):
    with lock:
        counts[kind] = counts.get(kind, 0) + 1


def connect():
    return socket.create_connection((place.hostname, place.port), timeout=120)


def head(method, path, body, shown=key):
    return (f"{method} {path} HTTP/1.1\r\nHost: {place.netloc}\r\nAuthorization: Bearer {shown}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n").encode() + body


def talk(data):
    """Sends data, and gives back (status, body); chunks are put together."""
    with connect() as s:
        try:
            s.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it has answered without reading everything
        got = b""
        while piece := s.recv(65536):
            got += piece
    headers, _, body = got.partition(b"\r\n\r\n")
    if b"chunked" in headers.lower():
        whole, rest = b"", body
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            n = int(size, 16)
            whole, rest = whole + rest[:n], rest[n + 2:]
            if n == 0:
                break
        body = whole
    return int(headers.split()[1]), body


def wish(rng, stream):
    chat = rng.random() < 0.5
    body = {"max_tokens": rng.randint(1, 30), "seed": rng.randint(0, 9), "temperature": rng.choice([0, 0.8, 2]),
            "stream": stream}
    words = " ".join(rng.choice(["the", "cat", "sat", "on", "a", "mat"]) for _ in range(rng.randint(1, 200)))
    if chat:
        body["messages"] = [{"role": "user", "content": words}]
        body["logprobs"] = rng.random() < 0.3
    else:
        body["prompt"] = words
        body["stop"] = ["\n\n", "Z"]
    return ("/v1/chat/completions" if chat else "/v1/completions"), json.dumps(body).encode()


def well_formed(rng):
    stream = rng.random() < 0.5
    path, body = wish(rng, stream)
    status, reply = talk(head("POST", path, body))
    if status != 200:
        return fail(f"a well-formed request got {status}: {reply[:200]!r}")
    if stream:
        events = [e[6:] for e in reply.decode().split("\n\n") if e]
        if events[-1] != "[DONE]" or not json.loads(events[-2])["choices"][0]["finish_reason"]:
            fail(f"a stream ended with {events[-2:]}")
    elif json.loads(reply)["choices"][0]["finish_reason"] not in ("stop", "length"):
        fail(f"an answer without an end: {reply[:200]!r}")


def hangs_up(rng):
    """Before, while or after the request is sent, or in the middle of the answer; politely or with a reset."""
    path, body = wish(rng, rng.random() < 0.7)
    data = head("POST", path, body)
    s = connect()
    s.sendall(data[:rng.choice([0, 10, len(data) // 2, len(data)])])
    if rng.random() < 0.5:
        s.settimeout(rng.random() * 0.05)
        try:
            s.recv(rng.randint(1, 300))
        except (TimeoutError, OSError):
            pass
    if rng.random() < 0.5:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    s.close()


def refused(rng):
    path, body = wish(rng, rng.random() < 0.5)
    kind = rng.randrange(5)
    if kind == 0:
        want, data = 413, head("POST", path, b'{"prompt": "' + b"x" * (max_body + rng.randint(0, max_body)))
    elif kind == 1:
        want, data = 400, head("POST", path, body[:rng.randint(0, len(body) - 1)])
    elif kind == 2:
        want, data = 401, head("POST", path, body, rng.choice(["", "wrong", key + "x", key[:-1]]))
    elif kind == 3:
        want, data = 404, head("POST", path + "/nowhere", body)
    else:
        want, data = 400, head("POST", path, bytes(rng.randrange(256) for _ in range(rng.randint(1, 200))))
    status, reply = talk(data)
    if status != want or "message" not in json.loads(reply)["error"]:
        fail(f"wanted {want}, got {status}: {reply[:200]!r}")


def work(numbers):
    for n in numbers:
        rng = random.Random(n)
        kind = rng.choices([well_formed, hangs_up, refused], [5, 3, 3])[0]
        count(kind.__name__)
        try:
            kind(rng)
        except Exception as problem:  # a thread's traceback would be lost
            fail(f"request {n}, {kind.__name__}: {problem!r}")


def gauges():
    status, reply = talk(head("GET", "/metrics", b""))
    lines = [line.split() for line in reply.decode().splitlines() if line and line[0] != "#"]
    return {name: float(value) for name, value in lines}


threads = [threading.Thread(target=work, args=(range(i, total, concurrency),)) for i in range(concurrency)]
for t in threads:
    t.start()
for t in threads:
    t.join()
for _ in range(100):
    now = gauges()
    if now["lowbit_sequences_busy"] == 0 and now["lowbit_queue_length"] == 0:
        break
    time.sleep(0.1)
else:
    fail(f"still busy: {now}")
path, body = wish(random.Random(-1), False)
if talk(head("POST", path, body))[0] != 200:
    fail("no answer after the load")
for sentence in failures:
    print("serve_load:", sentence)
print("serve_load:", ", ".join(f"{n} {kind}" for kind, n in sorted(counts.items())),
      f"- {len(failures)} failures")
sys.exit(1 if failures else 0)
