#!/usr/bin/env bash
# Starts the Python server, Weir in front of it, and calls the server through Weir from Rust, Python and Node.
# Ends with 0 only when every client got what it should.
#
# What it needs is installed into this folder on the first run. To use what is there already:
#   HELLO_WEIR, HELLO_RUST_CLIENT   programs; cargo builds them when unset
#   HELLO_PYTHON                    a python3 with the packages of python/requirements.txt
#   NODE_PATH                       a node_modules with the packages of node/package.json
set -euo pipefail
cd "$(dirname "$0")"

logs=$(mktemp -d)
started=()

clean_up() {
    # By process id, and only what this script has started.
    # (The odd expansion is what an old bash, such as macOS ships, needs for an array that is empty.)
    for pid in ${started[@]+"${started[@]}"}; do kill "$pid" 2>/dev/null || true; done
    for pid in ${started[@]+"${started[@]}"}; do wait "$pid" 2>/dev/null || true; done
    rm -rf "$logs"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

say() { echo "== $*"; }

need() {
    command -v "$1" >/dev/null || { echo "this sample needs $1: $2" >&2; exit 1; }
}

# start NAME COMMAND...: in the background, its output in a file.
start() {
    local name=$1
    shift
    "$@" >"$logs/$name" 2>&1 &
    last=$!
    started+=("$last")
}

# await NAME PATTERN: prints what the pattern's group matched in the output of NAME, once it is there. The process in
# question is the one that was started last.
await() {
    local name=$1 pattern=$2 found
    for _ in $(seq 300); do
        found=$(sed -nE "s/$pattern/\\1/p" "$logs/$name" | head -n 1)
        [[ -n $found ]] && { echo "$found"; return; }
        kill -0 "$last" 2>/dev/null || break
        sleep 0.1
    done
    echo "the $name did not start; its output:" >&2
    cat "$logs/$name" >&2
    return 1
}

if [[ -z ${HELLO_WEIR:-} || -z ${HELLO_RUST_CLIENT:-} ]]; then
    say "building weir and the Rust client"
    need cargo "install Rust from rustup"
    cargo build --workspace --bin weir --bin weir-sample-hello
    target=${CARGO_TARGET_DIR:-../../target}
    HELLO_WEIR=${HELLO_WEIR:-$target/debug/weir}
    HELLO_RUST_CLIENT=${HELLO_RUST_CLIENT:-$target/debug/weir-sample-hello}
fi

if [[ -z ${HELLO_PYTHON:-} ]]; then
    need python3 "install Python 3.9 or newer with venv (Debian: apt-get install python3-venv)"
    if [[ ! -e python/.venv/ready ]]; then
        say "installing the Python packages into python/.venv"
        python3 -m venv python/.venv
        python/.venv/bin/pip install --quiet --disable-pip-version-check -r python/requirements.txt
        touch python/.venv/ready
    fi
    HELLO_PYTHON=python/.venv/bin/python
fi

need node "install Node.js 18 or newer (Debian: apt-get install nodejs npm)"
if ! (cd node && node -e 'require("@grpc/grpc-js"); require("@grpc/proto-loader")') 2>/dev/null; then
    say "installing the Node packages into node/node_modules"
    need npm "install npm (Debian: apt-get install npm)"
    npm install --prefix node --no-package-lock --no-audit --no-fund --loglevel error
fi

say "starting the server (Python)"
start server "$HELLO_PYTHON" python/server.py 127.0.0.1:0
HELLO_SERVER_PORT=$(await server '^serving on port ([0-9]+)$')
export HELLO_SERVER_PORT

say "starting the gateway in front of port $HELLO_SERVER_PORT"
HELLO_GATEWAY_PORT=${HELLO_GATEWAY_PORT:-0} start gateway "$HELLO_WEIR" run -c gateway.yaml --workers 1
gateway=$(await gateway '^listening: listener hello on (.+)$')
await gateway '^(ready).*$' >/dev/null

say "calling through $gateway"
failed=()
"$HELLO_RUST_CLIENT" "$gateway" || failed+=(rust)
"$HELLO_PYTHON" python/client.py "$gateway" || failed+=(python)
node node/client.js "$gateway" || failed+=(node)

if ((${#failed[@]})); then
    say "FAILED: ${failed[*]}; the gateway's output:"
    cat "$logs/gateway"
    exit 1
fi
say "all three clients got what they should"
