#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# serve from outside, with curl, on a tiny random model; then the load test, and the real OpenAI client where it is
# installed (PYTHON names an interpreter that has it).
# Needs LOWBIT=path of the command and LB_BUILD=folder that holds make_tiny_model.
. tests/cli/lib/expect.bash
: "${LB_BUILD:?set LB_BUILD to the build folder}"
python=${PYTHON:-python3}
server=
at_end() { [ -z "$server" ] || kill -KILL "$server" 2>/dev/null; }
: >"$work/out"
: >"$work/err"

if ! command -v curl >/dev/null 2>&1; then
    echo "serve: skipped, there is no curl"
    exit 0
fi
"$LB_BUILD/make_tiny_model" "$work/tiny" seed=5 tokenizer=bpe context=4096 || { echo "no tiny model"; exit 1; }
"$LB_BUILD/make_tiny_model" "$work/no_chat" seed=5 chat=0
# A model that goes on and on: a big one, so that there is time to interrupt it.
"$LB_BUILD/make_tiny_model" "$work/slow" seed=6 tokenizer=bpe context=65536 hidden=512 ffn=2048 layers=8 heads=8 \
    kv_heads=8 head_dim=64

# start ARGUMENTS...: waits for the line that says where; $url.
start() {
    name="lowbit serve $*"
    : >"$work/server_err" # or the last server's line might be read
    env --default-signal=INT,TERM "$LOWBIT" serve "$@" --port 0 >"$work/server_out" 2>"$work/server_err" &
    server=$!
    url=
    for _ in $(seq 600); do
        url=$(sed -nE 's/^lowbit serve: (http[^ ]*) .*/\1/p' "$work/server_err")
        [ -n "$url" ] && return 0
        kill -0 "$server" 2>/dev/null || break
        sleep 0.05
    done
    cp "$work/server_err" "$work/err"
    bad "$name: does not start"
    exit 1
}
# stop SIGNAL: it must end in good time, with status 0.
stop() {
    kill "-$1" "$server"
    for _ in $(seq 300); do
        kill -0 "$server" 2>/dev/null || break
        sleep 0.05
    done
    kill -KILL "$server" 2>/dev/null && bad "$name: goes on after SIG$1"
    wait "$server"
    local got=$?
    cp "$work/server_err" "$work/err"
    [ "$got" -eq 0 ] || bad "$name: exit $got after SIG$1"
    [ ! -s "$work/server_out" ] || bad "$name: stdout is not empty"
    server=
}
# ask STATUS PATH CURL_ARGUMENTS...: the body goes to $work/out.
ask() {
    local want=$1 path=$2 got
    shift 2
    name="curl $path $*"
    got=$(curl -sS -m 60 -o "$work/out" -D "$work/headers" -w '%{http_code}' "$url$path" "$@" 2>"$work/err") || true
    [ "$got" = "$want" ] || bad "$name: status $got, wanted $want"
}
has() { grep -qF -- "$1" "$work/out" || bad "$name: no \"$1\""; }
lacks() { ! grep -qF -- "$1" "$work/out" || bad "$name: there is \"$1\""; }
metric() { curl -s -m 60 "$url/metrics" | awk -v name="lowbit_$1" '$1 == name { print $2 }'; }
user='{"messages":[{"role":"user","content":"hi"}],"seed":1'

start "$work/tiny" -v
ask 200 /
has '<!doctype html>'
grep -qi "content-security-policy: default-src 'none'" "$work/headers" || bad "$name: no policy"
lacks 'http://'
lacks 'https://'
ask 200 /health
has '"status":"ok"'
ask 200 /v1/models
has '"id":"tiny"'
has '"object":"list"'
ask 404 /v1/nothing
has '"type":"invalid_request_error"'
ask 405 /v1/completions
ask 405 /v1/models -d '{}'
ask 200 /health -I

# The words are those of `run`.
ask 200 /v1/completions -d '{"prompt":"the cat","max_tokens":8,"temperature":0,"stop":[]}'
has '"object":"text_completion"'
has '"prompt_tokens":5'
text() { sed -nE 's/.*"text": ?"([^"]*)".*/\1/p'; }
text <"$work/out" >"$work/said"
"$LOWBIT" run "$work/tiny" -p "the cat" -n 8 --temp 0 -q --json 2>/dev/null | text >"$work/ran"
[ "$(cat "$work/said")" = "$(cat "$work/ran")" ] || bad "run and serve differ: $(cat "$work/said" "$work/ran")"
ask 200 /v1/completions -d '{"prompt":"the cat","max_tokens":8,"temperature":0}'
has '"cached_tokens":4'
ask 200 /v1/completions -d '{"prompt":"the cat","max_tokens":8,"temperature":0,"cache_prompt":false}'
has '"cached_tokens":0'

ask 200 /v1/chat/completions -d "$user,\"max_tokens\":4}"
has '"object":"chat.completion"'
has '"role":"assistant"'
ask 200 /v1/chat/completions -d "$user,\"max_tokens\":4,\"stream\":true,\"stream_options\":{\"include_usage\":true}}"
grep -qi 'content-type: text/event-stream' "$work/headers" || bad "$name: no event stream"
has 'data: [DONE]'
has '"usage":{"prompt_tokens":'
has '"delta":{"role":"assistant"'

ask 400 /v1/completions -d '{"prompt":"x","n":2}'
has 'only 1 answer'
ask 400 /v1/completions -d 'nonsense'
has 'not valid JSON'
ask 400 /v1/completions -d '{"prompt":""}'
has 'no tokens'
ask 400 /v1/completions -d '{"prompt":[999999]}'
has 'outside the vocabulary'
{
    printf '{"prompt":"'
    head -c 20000 /dev/zero | tr '\0' x
    printf '"}'
} >"$work/long"
ask 400 /v1/completions -d "@$work/long"
has 'context_length_exceeded'
head -c 6000000 "/dev/zero" | tr '\0' ' ' >"$work/huge"
ask 413 /v1/completions -d "@$work/huge"
ask 403 /v1/completions -H 'Origin: http://evil.example' -d '{"prompt":"x"}'
ask 403 /v1/models -H 'Host: evil.example'
ask 200 /v1/models -H "Origin: $url"

[ "$(metric 'http_responses_total{status="403"}')" = 2 ] || bad "metrics: $(curl -s -m 60 "$url/metrics" | grep _responses)"
[ "$(metric sequences_busy)" = 0 ] || bad "metrics: busy"
[ "$(metric generated_tokens_total)" -gt 10 ] || bad "metrics: no tokens"
grep -q '^POST /v1/completions 400 ' "$work/server_err" || bad "-v: no line for a response"
stop TERM

# Keys; a name; a template that is missing.
printf 'secret\nignored\n' >"$work/key"
start "$work/no_chat" --api-key-file "$work/key" --name other
ask 401 /v1/models
has 'invalid_api_key'
ask 401 /v1/models -H 'Authorization: Bearer secre'
ask 401 /metrics
ask 200 /health
ask 200 /
ask 200 /v1/models -H 'Authorization: Bearer secret'
has '"id":"other"'
ask 400 /v1/chat/completions -H 'Authorization: Bearer secret' -d "$user}"
has 'chat template'
stop INT

# A line with an end, time that runs out, clients that go away, and an end while answers are under way.
start "$work/slow" --parallel 1 --queue 1 --timeout 3 --grace 0.3 --threads 1
long='{"prompt":"the cat","max_tokens":60000,"temperature":3,"seed":3,"stop":null,"ignore_eos":true'
curl -s -o "$work/first" "$url/v1/completions" -d "$long}" &
first=$!
for _ in $(seq 100); do [ "$(metric sequences_busy)" = 1 ] && break; sleep 0.02; done
curl -s -o "$work/second" "$url/v1/completions" -d "$long}" &
second=$!
for _ in $(seq 100); do [ "$(metric queue_length)" = 1 ] && break; sleep 0.02; done
ask 429 /v1/completions -d "$long}"
grep -qi '^retry-after:' "$work/headers" || bad "$name: no Retry-After"
kill "$second"
wait "$second" 2>/dev/null
for _ in $(seq 150); do [ "$(metric queue_length)" = 0 ] && break; sleep 0.02; done
[ "$(metric queue_length)" = 0 ] || bad 'a client that went away still waits'
wait "$first"
grep -qF '"code":"timeout"' "$work/first" || bad "no timeout: $(head -c 200 "$work/first")"
for stream in true false; do
    curl -s -N "$url/v1/completions" -d "$long,\"stream\":$stream}" >"$work/left" &
    client=$!
    for _ in $(seq 100); do [ "$(metric sequences_busy)" = 1 ] && break; sleep 0.02; done
    kill "$client"
    wait "$client" 2>/dev/null
    for _ in $(seq 100); do [ "$(metric sequences_busy)" = 0 ] && break; sleep 0.02; done
    [ "$(metric sequences_busy)" = 0 ] || bad "a client that went away (stream: $stream) is still answered"
done
[ "$(metric 'answers_total{end="gone"}')" = 3 ] || bad "gone: $(curl -s -m 60 "$url/metrics" | grep _answers)"
curl -s -N "$url/v1/completions" -d "$long,\"stream\":true}" >"$work/cut" &
client=$!
for _ in $(seq 100); do [ -s "$work/cut" ] && break; sleep 0.02; done
stop INT
wait "$client"
grep -qF 'shutting down' "$work/cut" || bad "a stream is cut without a word: $(tail -c 200 "$work/cut")"

# What cannot be served.
expect 1 serve "$work/absent" --port 0
expect 2 serve "$work/tiny" --port 70000
expect 2 serve "$work/tiny" --parallel 0
expect 2 serve "$work/tiny" --json
expect 1 serve "$work/tiny" --port 0 --api-key-file "$work/absent"
: >"$work/empty"
expect 1 serve "$work/tiny" --port 0 --api-key-file "$work/empty"

# Load, and the real client.
start "$work/tiny" --api-key-file "$work/key" --max-body 64 --parallel 4 --queue 8
name='a second server on the port'
timeout 30 "$LOWBIT" serve "$work/tiny" --port "${url##*:}" 2>"$work/err"
[ $? -eq 1 ] || bad "$name: it starts"
grep -qF 'cannot listen on 127.0.0.1' "$work/err" || bad "$name: does not say why"
if command -v "$python" >/dev/null 2>&1; then
    timeout 300 "$python" tests/interop/serve_load.py "$url" secret 65536 || bad 'the load test fails'
    timeout 120 "$python" tests/interop/openai_client.py "$url" secret
    got=$?
    [ "$got" -eq 0 ] || [ "$got" -eq 77 ] || bad 'the OpenAI client fails'
else
    echo "serve: no python3, the load test and the OpenAI client are left out"
fi
stop TERM

[ "$failures" -eq 0 ] || exit 1
echo "serve: all good"
