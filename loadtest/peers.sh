#!/bin/sh
# Builds the peers that the load test measures against from their public repositories, at the tags below, into the folder
# given: distributions ship versions that are years old. It needs git, make, a C compiler, and the headers of OpenSSL,
# PCRE2 and zlib (Debian: libssl-dev libpcre2-dev zlib1g-dev). Nothing is installed.
# HAPROXY_SOURCE, HAPROXY_TAG, NGINX_SOURCE and NGINX_TAG choose other sources.
set -eu

haproxySource=${HAPROXY_SOURCE:-https://github.com/haproxy/haproxy.git}
haproxyTag=${HAPROXY_TAG:-v3.4.0}
nginxSource=${NGINX_SOURCE:-https://github.com/nginx/nginx.git}
nginxTag=${NGINX_TAG:-release-1.30.4}

folder=$1
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
jobs=$(getconf _NPROCESSORS_ONLN)

# fetch leaves the sources of a tag in a folder; what an earlier run fetched is used again.
fetch() {
	[ -d "$3" ] || git -c advice.detachedHead=false clone -q --depth 1 --branch "$2" "$1" "$3"
}

# The programs are built as their authors and Debian build them: -O2, threads, PCRE2 with its compiler, OpenSSL.
src="$folder/src/haproxy-$haproxyTag"
fetch "$haproxySource" "$haproxyTag" "$src"
make -s -C "$src" -j "$jobs" TARGET=linux-glibc USE_OPENSSL=1 USE_PCRE2=1 USE_PCRE2_JIT=1 haproxy
cp "$src/haproxy" "$folder/haproxy"

src="$folder/src/nginx-$nginxTag"
fetch "$nginxSource" "$nginxTag" "$src"
(
	cd "$src"
	./auto/configure --prefix="$folder/nginx-prefix" --with-cc-opt=-O2 --with-http_ssl_module --with-http_v2_module \
		--with-stream --with-stream_ssl_module --with-stream_ssl_preread_module --with-threads --with-pcre-jit >/dev/null
	make -s -j "$jobs"
)
cp "$src/objs/nginx" "$folder/nginx"

"$folder/haproxy" -v | head -n 1
"$folder/nginx" -v
