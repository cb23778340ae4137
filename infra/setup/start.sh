#!/usr/bin/env bash
# What `npm start` runs: sets this machine up, then becomes the server (exec, so that signals reach it).
# Arguments go to the server: `npm start -- --role gateway`.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/ensure.sh"
cd "$SKIFF_ROOT"
ensure "${SERVER_PACKAGES[@]}"
exec node infra/host/main.ts server --demo "$@"
