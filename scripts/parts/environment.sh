# Sourced by the other scripts: makes .venv with the package and the extras named in EXTRAS, unless that was done.
# A stamp holds a checksum of pyproject.toml and the extras, so that a second run skips what is already there.
set -eu
cd "$(dirname "$0")/.."

find_python() {
    for name in "${PYTHON:-}" python3 python3.13 python3.12 python3.11 python; do
        [ -n "$name" ] || continue
        if "$name" -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$name"
            return
        fi
    done
    echo "mpqueue needs Python 3.11 or newer with its venv module; none was found. Name one: PYTHON=/path/to/python3 $0" >&2
    exit 1
}

if [ ! -x .venv/bin/python ] || ! .venv/bin/python -c '' 2>/dev/null; then
    rm -rf .venv
    python=$(find_python)
    echo "making .venv with $($python --version)"
    "$python" -m venv .venv
fi
stamp=".venv/set-up-$(echo "$EXTRAS" | tr ',' '-')"
wanted="$(cksum < pyproject.toml) $(pwd)"
if [ "$(cat "$stamp" 2>/dev/null || true)" != "$wanted" ]; then
    echo "installing mpqueue[$EXTRAS] into .venv"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -e ".[$EXTRAS]"
    echo "$wanted" > "$stamp"
fi
