package cluster

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// Addresses. EndpointSlices refuse loopback addresses, so pods have addresses of a network that is made local.
const (
	podNetwork = "10.244.0.0/16"
	// NodeAddress is the address of the machine, on which the API server listens and what has no address of its own.
	NodeAddress = "10.244.0.1"
	podNetmask  = "255.255.0.0"
	serviceCIDR = "10.96.0.0/16"
)

// serviceAccountFolder is where programs in a pod expect their credentials; client-go has the path built in.
const serviceAccountFolder = "/var/run/secrets/kubernetes.io/serviceaccount"

// inNamespaces returns a command that runs this program with a network, processes and mounts of its own.
func inNamespaces(arguments ...string) *exec.Cmd {
	c := exec.Command("/proc/self/exe", arguments...)
	c.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWNS,
		Pdeathsig:  syscall.SIGKILL,
	}
	if os.Geteuid() != 0 {
		c.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		c.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}}
		c.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}}
	}
	return c
}

// namespacesPermitted tries what inNamespaces needs, with a run in which no test is asked for.
func namespacesPermitted() error {
	c := inNamespaces("-test.run=^$")
	c.Env = append(os.Environ(), folderVariable+"="+os.TempDir())
	text, err := c.CombinedOutput()
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.EPERM), errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EINVAL):
		return fmt.Errorf("it needs root or user namespaces, which this machine does not permit (kernel.unprivileged_userns_clone, "+
			"user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns): %w", err)
	default:
		return fmt.Errorf("it needs root or user namespaces with a network of their own: %w: %s", err, text)
	}
}

// enterNetwork finishes the namespaces from the inside.
func enterNetwork() error {
	if err := unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("keep mounts to ourselves: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	// A /run of our own, so that the folder of credentials can be made; each pod puts its own on top.
	if err := unix.Mount("tmpfs", "/run", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755"); err != nil {
		return fmt.Errorf("mount /run: %w", err)
	}
	if err := os.MkdirAll(serviceAccountFolder, 0o755); err != nil {
		return fmt.Errorf("%s has to be below /run: %w", filepath.Dir(serviceAccountFolder), err)
	}
	return addAddress()
}

// addAddress brings the loopback device up and gives it NodeAddress. Linux takes every address of such a network as local,
// so that all of podNetwork can be listened on.
func addAddress() error {
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(socket)
	device, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(socket, unix.SIOCGIFFLAGS, device); err != nil {
		return fmt.Errorf("read the flags of lo: %w", err)
	}
	device.SetUint16(device.Uint16() | unix.IFF_UP)
	if err := unix.IoctlIfreq(socket, unix.SIOCSIFFLAGS, device); err != nil {
		return fmt.Errorf("bring lo up: %w", err)
	}
	// A label keeps 127.0.0.1, which an address set for lo itself would replace.
	for _, step := range []struct {
		request uint
		address string
	}{{unix.SIOCSIFADDR, NodeAddress}, {unix.SIOCSIFNETMASK, podNetmask}} {
		label, err := unix.NewIfreq("lo:0")
		if err != nil {
			return err
		}
		if err := label.SetInet4Addr(netip.MustParseAddr(step.address).AsSlice()); err != nil {
			return err
		}
		if err := unix.IoctlIfreq(socket, step.request, label); err != nil {
			return fmt.Errorf("give lo %s: %w", podNetwork, err)
		}
	}
	return nil
}
