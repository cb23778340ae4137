#!/usr/bin/env bash
# What `npm run bench` runs: sets this machine up, then the benchmarks. Arguments are the program's.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/ensure.sh"
cd "$SKIFF_ROOT"
ensure "${SERVER_PACKAGES[@]}" "${BENCH_PACKAGES[@]}"
exec node test/bench/main.ts "$@"
