#!/bin/sh
# Compiles src/ to the objects that are committed. Needs clang 19 and the headers of libbpf; building RAUTA needs neither.
set -eu
cd "$(dirname "$0")"
clang=${CLANG:-clang-19}
go run github.com/cilium/ebpf/cmd/bpf2go@v0.22.0 -cc "$clang" -strip "${STRIP:-llvm-strip}" -go-package bpf \
	-tags linux -target amd64,arm64 -type cell -type conn -cflags "-O2 -g -Wall -Werror" kernel src/rauta.c
"$clang" --version | head -n 1 >compiler.txt
sha256sum src/kernel.h src/rauta.c generate.sh kernel_*_bpfel.go kernel_*_bpfel.o compiler.txt >objects.sha256
