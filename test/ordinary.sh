#!/usr/bin/env bash
# ordinary.sh REGEXP PACKAGE...: as root, runs the tests of packages as a user without permissions; "" is all of them.
set -euo pipefail
regexp=$1
shift
if (($(id -u) != 0)) || ! command -v setpriv >/dev/null; then
	echo 'ordinary: skipped, it needs root and setpriv; an ordinary user runs go test'
	exit 0
fi
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir "$dir/tmp"
chmod 755 "$dir"
chmod 1777 "$dir/tmp"
go build -o "$dir/rauta" ./cmd/rauta
user=(setpriv --reuid=65534 --regid=65534 --clear-groups --bounding-set=-all --inh-caps=-all --no-new-privs --)
for package in "$@"; do
	if ! "${user[@]}" test -r "$package/."; then
		echo "ordinary: skipped, the user may not read $PWD/$package"
		exit 0
	fi
	go test -c -o "$dir/one.test" "$package"
	(cd "$package" && env HOME="$dir/tmp" TMPDIR="$dir/tmp" RAUTA="$dir/rauta" "${user[@]}" \
		"$dir/one.test" -test.run="$regexp" -test.timeout=15m) >"$dir/log" 2>&1 || {
		grep -v '^\(ok\|PASS\)' "$dir/log" | tail -n 100
		echo "ordinary: $package FAILED"
		exit 1
	}
	echo "ordinary: $package $(tail -n 1 "$dir/log")"
done
