package rawio

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// MapCounter makes a file of 8 bytes that another process can map, too, and returns the number in it, which begins at 0.
func MapCounter(path string) (n *uint64, unmap func() error, err error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return nil, nil, err
	}
	defer file.Close()
	size := int(unsafe.Sizeof(*n))
	if err := file.Truncate(int64(size)); err != nil {
		return nil, nil, err
	}
	memory, err := unix.Mmap(int(file.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, nil, fmt.Errorf("map %s: %w", path, err)
	}
	return (*uint64)(unsafe.Pointer(unsafe.SliceData(memory))), func() error { return unix.Munmap(memory) }, nil
}
