#!/bin/sh
# Installs the load generators and the peers that the load test measures against, from the distribution's packages. ghz
# is no package; make loadtest-deps builds it.
# The servers must not start by themselves: the load test starts its own instances, on free ports.
set -eu

if ! command -v apt-get >/dev/null; then
	echo "loadtest-deps: no apt-get here; install wrk, nginx, haproxy and nghttp2-client by hand" >&2
	exit 1
fi
asRoot=
if [ "$(id -u)" -ne 0 ]; then
	asRoot=sudo
fi

# Debian's maintainer scripts ask policy-rc.d before they start a service; 101 forbids it. One that exists stays.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
	printf '#!/bin/sh\nexit 101\n' | $asRoot tee "$policy" >/dev/null
	$asRoot chmod 755 "$policy"
	trap '$asRoot rm -f "$policy"' EXIT
fi

$asRoot apt-get update -q
$asRoot env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends wrk nginx haproxy nghttp2-client

if command -v systemctl >/dev/null && [ -d /run/systemd/system ]; then
	$asRoot systemctl disable --now nginx haproxy
fi
