#!/bin/sh
# Puts redis-server and the libraries it needs, as Debian's packages on this host have them, beside redis/Containerfile.
set -eu
cd "$(dirname "$0")/redis"
program=$(command -v redis-server) || { echo 'redis-server is missing: apt-get install redis-server' >&2; exit 1; }
rm -rf debian && mkdir -p debian/bin debian/lib
cp -L "$program" debian/bin/redis-server
ldd "$program" | awk '$3 ~ /^\// { print $3 }' | while read -r library; do cp -L "$library" debian/lib/; done
