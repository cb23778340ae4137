#!/usr/bin/env bash
# What `npm test` runs: sets this machine up, then every test. Ends with a line `N passed, N failed`.
# Arguments go to vitest: `npm test -- test/unit/frame.test.ts`, `npm test -- --project unit`.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/ensure.sh"
cd "$SKIFF_ROOT"
ensure "${SERVER_PACKAGES[@]}" "${TEST_PACKAGES[@]}"
exec vitest run "$@"
