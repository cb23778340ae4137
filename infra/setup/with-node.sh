#!/usr/bin/env bash
# Runs a TypeScript file under the platform's own Node: bash infra/setup/with-node.sh test/bench/main.ts --quick
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/ensure.sh"
cd "$SKIFF_ROOT"
ensure "${SERVER_PACKAGES[@]}"
exec node "$@"
