#!/bin/sh
# Compiles src/ to the objects that are committed. Needs clang 19 and the headers of libbpf; building RAUTA needs neither.
set -eu
cd "$(dirname "$0")"
clang=${CLANG:-clang-19}
generate() {
	name=$1
	source=$2
	shift 2
	go run github.com/cilium/ebpf/cmd/bpf2go@v0.22.0 -cc "$clang" -strip "${STRIP:-llvm-strip}" -go-package bpf \
		-tags linux -target amd64,arm64 "$@" -cflags "-O2 -g -Wall -Werror" "$name" "src/$source.c"
}
generate kernel rauta -type cell -type conn
generate requests requests -type slot -type stamp -type window
"$clang" --version | head -n 1 >compiler.txt
sha256sum src/kernel.h src/*.c generate.sh ./*_bpfel.go ./*_bpfel.o compiler.txt >objects.sha256
