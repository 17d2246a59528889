# shellcheck shell=bash
# What the scripts of this folder share. Source it; it changes to the repository's root. It keeps to bash 3.2 and
# POSIX tools, which is what macOS has.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# say TEXT: a step, on stderr, so that a script's stdout stays its result.
say() { printf '==> %s\n' "$*" >&2; }

# die TEXT [STATUS]: the reason, and the end.
die() {
    printf '%s: %s\n' "${0##*/}" "$1" >&2
    exit "${2:-1}"
}

have() { command -v "$1" >/dev/null 2>&1; }

# engine: the container engine that answers, or status 1. A client without its daemon doesn't count.
engine() {
    local name
    for name in docker podman nerdctl; do
        if have "$name" && "$name" info >/dev/null 2>&1; then
            echo "$name"
            return
        fi
    done
    return 1
}

# full_name IMAGE: with its registry. Docker and Kubernetes assume docker.io, podman doesn't.
full_name() {
    case $1 in
    *.*/* | *:*/* | localhost/*) echo "$1" ;;
    */*) echo "docker.io/$1" ;;
    *) echo "docker.io/library/$1" ;;
    esac
}

# static COMMAND...: with the settings of the release's binaries and of the lab's, so that Kubernetes and its client are
# compiled once for all that is not under the race detector.
static() { env CGO_ENABLED=0 GOFLAGS="-trimpath -buildvcs=false" "$@"; }

# lab ARGUMENT...: the lab's own program. Not by go run, which hides the exit code behind its own.
lab() {
    local root=$PWD
    static go build -C test/lab -o "$root/bin/lab" ./cmd/lab || return
    (cd test/lab && exec "$root/bin/lab" "$@")
}

# The lab's folder, as its program has it.
: "${LAB_DIR:=/var/tmp/pwdeploy-lab}"
export LAB_DIR
