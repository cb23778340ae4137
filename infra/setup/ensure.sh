# Sourced by start.sh, test.sh and bench.sh. Owns: a machine that has what Skiff needs, and no more.
#
# Invariant: a run that finds everything in place costs two hashes and a few look-ups, touches no network and
# changes nothing. Whatever is missing is named on stderr before it is fetched.
# Deliberately absent: starting anything (infra/host does), and any setting of npm or apt: both are used as
# this machine has them configured.

SKIFF_ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)"
readonly SKIFF_ROOT
readonly STAMP="$SKIFF_ROOT/node_modules/.skiff-lock-hash"

# command -> Debian package that brings it. Everything a server needs.
readonly SERVER_PACKAGES=(
  crun:crun buildah:buildah redis-server:redis-server docker-registry:docker-registry nft:nftables ip:iproute2
  mkfs.ext4:e2fsprogs
  /etc/ssl/certs/ca-certificates.crt:ca-certificates
)
# What only the tests need: an independent reader of our images, two more container runtimes, and a browser with a font.
readonly TEST_PACKAGES=(
  skopeo:skopeo runc:runc runsc:runsc chromium:chromium
  /usr/share/fonts/truetype/dejavu/DejaVuSans.ttf:fonts-dejavu-core
)

# What only the benchmarks need. Docker, to stand beside, is measured where it is installed.
readonly BENCH_PACKAGES=(wrk:wrk)

say() { printf 'skiff: %s\n' "$*" >&2; }

fail() {
  say "$*"
  exit 1
}

# The command that runs now, of this shell.
attempted=

# What SIGINT and SIGTERM do during setup: end what is being fetched, and let apt finish in the subshell it is in: cut
# off halfway it would leave dpkg to be repaired by hand.
stop_setup() {
  say 'stopping'
  [[ -z "$attempted" ]] || kill "$attempted" 2>/dev/null || true
  trap - EXIT
  wait
  exit 130
}

# Runs a long command quietly and says how long it took; its output is shown only when it fails, by the status.
attempt() {
  local what=$1 output began=$SECONDS
  shift
  output="$(mktemp)"
  say "$what …"
  # In the background and waited for: a trap would run only after a command in the foreground has ended.
  "$@" >"$output" 2>&1 </dev/null &
  attempted=$!
  if wait "$attempted"; then
    attempted=
    rm -f "$output"
    say "$what: done in $((SECONDS - began)) s"
    return 0
  fi
  attempted=
  grep -v '^npm warn' "$output" | tail -n 40 >&2
  rm -f "$output"
  say "$what failed (its output is above): $*"
  return 1
}

# Prints the Debian packages whose command or file is not there.
missing_packages() {
  local pair probe
  for pair in "$@"; do
    probe="${pair%:*}"
    case "$probe" in
      /*) [[ -e "$probe" ]] && continue ;;
      *) command -v "$probe" >/dev/null 2>&1 && continue ;;
    esac
    printf '%s\n' "${pair##*:}"
  done
}

# Debian's redis-server and docker-registry packages start a system service when installed. Skiff runs its own
# on its own sockets and data; a second one on the default ports would be a surprise. Units are masked for this
# boot while apt runs (the way dpkg itself honours), and disabled afterwards: only units we have just brought.
install_packages() {
  local units=() name
  for name in redis-server docker-registry; do
    [[ " $* " == *" $name "* ]] && units+=("$name")
  done
  if ((${#units[@]})) && [[ -d /run/systemd/system ]]; then
    systemctl mask --runtime --quiet "${units[@]/%/.service}" || true
  fi
  # RUNLEVEL=1 says the same to machines without systemd.
  local status=0
  attempt "installing Debian packages: $*" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
    apt-get install --yes --no-install-recommends --quiet -o DPkg::Lock::Timeout=120 "$@" || status=1
  for name in "${units[@]}"; do
    if [[ -d /run/systemd/system ]]; then
      systemctl unmask --runtime --quiet "$name.service" || true
      systemctl disable --quiet "$name.service" || true
    elif command -v update-rc.d >/dev/null; then
      update-rc.d "$name" disable >/dev/null 2>&1 || true
    fi
  done
  return "$status"
}

update_packages() {
  attempt 'reading the list of Debian packages' apt-get update --quiet -o DPkg::Lock::Timeout=120
}

ensure_packages() {
  local missing
  mapfile -t missing < <(missing_packages "$@")
  ((${#missing[@]})) || return 0
  command -v apt-get >/dev/null ||
    fail "needs ${missing[*]} and this system has no apt-get: install their equivalents and run this again"
  ((EUID == 0)) ||
    fail "needs ${missing[*]}; run as root, or first: sudo apt-get install --no-install-recommends ${missing[*]}"
  if [[ "$(apt-cache policy "${missing[@]}" 2>/dev/null | grep -c 'Candidate: [^(]')" -lt ${#missing[@]} ]]; then
    update_packages || exit 1
    install_packages "${missing[@]}" || exit 1
  elif ! install_packages "${missing[@]}"; then
    say 'the list of packages may be old (it names files the mirror no longer has): reading it again'
    update_packages || exit 1
    install_packages "${missing[@]}" || exit 1
  fi
  mapfile -t missing < <(missing_packages "$@")
  ((${#missing[@]} == 0)) || fail "installed, but still not found: ${missing[*]}"
}

# True when node_modules holds every package of the lock file in its version: npm's own record of what it put
# there is compared with the lock file.
node_modules_match_lock() {
  local node="$SKIFF_ROOT/node_modules/.bin/node"
  [[ -x "$node" ]] || return 1
  "$node" -e '
    const fs = require("node:fs");
    const read = (name) => JSON.parse(fs.readFileSync(process.argv[1] + name, "utf8")).packages;
    const wanted = read("/package-lock.json");
    const installed = read("/node_modules/.package-lock.json");
    // An optional package is for one kind of machine; on that kind it is not optional to us.
    const isFor = (list, own) => list === undefined || list.includes(own);
    const isForThis = ({ os, cpu, libc }) =>
      isFor(os, process.platform) && isFor(cpu, process.arch) && isFor(libc, "glibc");
    const isWanted = (entry) => !entry.optional || (entry.os !== undefined && isForThis(entry));
    const names = Object.keys(wanted).filter((name) => name !== "" && isWanted(wanted[name]));
    const isSame = (name) => installed[name]?.version === wanted[name].version && fs.existsSync(process.argv[1] + "/" + name);
    process.exit(names.every(isSame) ? 0 : 1);
  ' "$SKIFF_ROOT" 2>/dev/null
}

# Node 26 itself is an npm package, so this brings the platform's runtime as well.
# `npm install --no-save` and a check in place of `npm ci`: ci deletes node_modules first (under a server that
# runs from it), and it refuses the lock file where a registry mirror lacks some other platform's optional binary.
# Versions and integrity come from the lock file either way; CI=true or no stdin changes nothing.
ensure_node_modules() {
  local hash
  hash="$(sha256sum <"$SKIFF_ROOT/package-lock.json")"
  hash="${hash%% *}"
  [[ -x "$SKIFF_ROOT/node_modules/.bin/node" && "$(cat "$STAMP" 2>/dev/null)" == "$hash" ]] && return 0
  if ! node_modules_match_lock; then
    command -v npm >/dev/null || fail 'npm is missing: install Node 20 or newer with npm, then run this again'
    attempt 'installing Node 26 and the npm dependencies' \
      npm install --prefix "$SKIFF_ROOT" --no-save --ignore-scripts --no-audit --no-fund --loglevel=error || exit 1
    [[ -x "$SKIFF_ROOT/node_modules/.bin/node" ]] ||
      fail "no Node 26 binary for $(uname -m): Skiff runs on x86_64 and aarch64 Linux with glibc"
    node_modules_match_lock ||
      fail 'node_modules differs from package-lock.json after npm install: remove node_modules and run this again'
  fi
  printf '%s' "$hash" >"$STAMP"
}

# One setup at a time in one folder: `npm start` and `npm test` may be typed together.
ensure() {
  local fd apt_job
  [[ "$(uname -s)" == Linux ]] || fail "runs on Linux; this is $(uname -s)"
  exec {fd}<"$SKIFF_ROOT/package.json"
  if ! flock --nonblock "$fd"; then
    say 'another setup runs in this folder; waiting for it'
    flock "$fd"
  fi
  # Debian keeps nft where only root's login shell looks.
  PATH="$PATH:/usr/sbin:/sbin"
  # Beside each other: one waits for its mirror while the other unpacks.
  (
    trap '' INT TERM HUP
    ensure_packages "$@"
  ) &
  apt_job=$!
  trap stop_setup INT TERM HUP
  trap wait EXIT
  ensure_node_modules
  trap - EXIT
  wait "$apt_job" || exit 1
  trap - INT TERM HUP
  exec {fd}<&-
  export PATH="$SKIFF_ROOT/node_modules/.bin:$PATH"
  # Halves the start of each of our processes.
  export NODE_COMPILE_CACHE="$SKIFF_ROOT/.cache/compiled"
}
