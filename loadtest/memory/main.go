// Command memory measures what RAUTA takes with a configuration from files: it writes one, starts RAUTA with it, waits until it
// is ready and has rested, and prints its resident memory and the CPU time that it took until then.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"rauta.io/rauta/internal/testrig"
	"rauta.io/rauta/loadtest/procfs"
)

const (
	readyTimeMax = time.Minute
	stopTimeMax  = 10 * time.Second
	pollTime     = 20 * time.Millisecond
)

type options struct {
	rauta string
	size
	ebpf string
	rest time.Duration
	keep string
}

func main() {
	var o options
	flag.StringVar(&o.rauta, "rauta", "bin/rauta", "the program")
	flag.IntVar(&o.routes, "routes", 10_000, "HTTPRoutes with hostnames of their own")
	flag.IntVar(&o.services, "services", 10_000, "Services, each with an EndpointSlice")
	flag.IntVar(&o.endpoints, "endpoints", 10_000, "endpoints in all")
	flag.IntVar(&o.certificates, "certificates", 1_000, "certificates")
	flag.StringVar(&o.ebpf, "ebpf", "off,auto", "values of --ebpf, with commas between")
	flag.DurationVar(&o.rest, "rest", 10*time.Second, "how long it rests after it is ready")
	flag.StringVar(&o.keep, "keep", "", "write the configuration to this file, and keep it")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := o.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "memory:", err)
		os.Exit(1)
	}
}

func (o *options) run(ctx context.Context) error {
	if o.services < 1 || o.endpoints < o.services || o.certificates > o.routes {
		return errors.New("there must be a Service, an endpoint for each, and no more certificates than routes")
	}
	file := o.keep
	if file == "" {
		folder, err := os.MkdirTemp("", "rauta-memory-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(folder)
		file = filepath.Join(folder, "all.yaml")
	}
	port, err := testrig.Port()
	if err != nil {
		return err
	}
	securePort, err := testrig.Port()
	if err != nil {
		return err
	}
	if err := write(file, o.size, port, securePort); err != nil {
		return err
	}
	fmt.Printf("%d routes, %d Services, %d endpoints, %d certificates\n", o.routes, o.services, o.endpoints, o.certificates)
	fmt.Println("--ebpf   resident MB = own + shared + of files   most MB   ready s   CPU s until then")
	for value := range strings.SplitSeq(o.ebpf, ",") {
		if err := o.measure(ctx, file, value); err != nil {
			return err
		}
	}
	return nil
}

// measure starts RAUTA once.
func (o *options) measure(ctx context.Context, file, ebpf string) error {
	port, err := testrig.Port()
	if err != nil {
		return err
	}
	metrics := fmt.Sprintf("127.0.0.1:%d", port)
	command := exec.CommandContext(ctx, o.rauta, "serve", "--config", file, "--bind", "127.0.0.1", "--admin", "off", "--metrics", metrics,
		"--ebpf", ebpf, "--drain-delay", "0s")
	command.Cancel, command.WaitDelay = func() error { return command.Process.Signal(syscall.SIGTERM) }, stopTimeMax
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var log bytes.Buffer
	command.Stderr = &log
	began := time.Now()
	if err := command.Start(); err != nil {
		return err
	}
	defer func() {
		_ = command.Cancel()
		_ = command.Wait()
	}()
	if err := untilReady(ctx, metrics); err != nil {
		return fmt.Errorf("%w; its log:\n%s", err, log.Bytes())
	}
	ready := time.Since(began)
	cpu, err := procfs.ReadCPU([]int{command.Process.Pid})
	if err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(o.rest):
	}
	sizes, err := procfs.StatusBytes(command.Process.Pid, "VmRSS", "RssAnon", "RssShmem", "RssFile", "VmHWM")
	if err != nil {
		return err
	}
	mb := func(field int) float64 { return float64(sizes[field]) / 1e6 }
	fmt.Printf("%-8s %11.1f = %5.1f + %4.1f + %4.1f %15.1f %9.2f %11.2f\n",
		ebpf, mb(0), mb(1), mb(2), mb(3), mb(4), ready.Seconds(), time.Duration(cpu.Used).Seconds())
	return nil
}

func untilReady(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeMax)
	defer cancel()
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/readyz", nil)
		if err != nil {
			return err
		}
		if response, err := http.DefaultClient.Do(request); err == nil {
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("RAUTA is not ready: %w", ctx.Err())
		case <-time.After(pollTime):
		}
	}
}
