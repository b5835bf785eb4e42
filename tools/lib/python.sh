# Sourced by the tools (bash). Finds a Python >= 3.11, or gets Debian's, and runs one of the modules of tools/lib with it:
#   run_module tools.lib.run_tests "$@"

find_python() {
    # The system's own first: the headers and the venv module that apt installs belong to it.
    local candidate
    for candidate in /usr/bin/python3 python3 python3.13 python3.12 python3.11 python3.14; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
            command -v "$candidate"
            return 0
        fi
    done
    return 1
}

run_module() {
    local root python
    root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
    if ! python=$(find_python); then
        echo "Python 3.11 or newer is missing, in which everything here is written." >&2
        if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
            echo "Install it (on Debian 12, as root: apt-get install python3 python3-venv), then try again." >&2
            exit 2
        fi
        echo "Installing Debian's python3 and python3-venv ..." >&2
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
            python3 python3-venv >/dev/null
        if ! python=$(find_python); then
            echo "Debian's python3 here is older than 3.11: this needs Debian 12 or newer." >&2
            exit 2
        fi
    fi
    cd "$root"
    PYTHONPATH="$root" PYTHONDONTWRITEBYTECODE=1 exec "$python" -m "$@"
}
