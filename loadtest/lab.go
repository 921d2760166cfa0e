package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"rauta.io/rauta/internal/testrig"
	"rauta.io/rauta/loadtest/generator"
	"rauta.io/rauta/loadtest/peers"
	"rauta.io/rauta/loadtest/process"
	"rauta.io/rauta/loadtest/procfs"
)

const (
	// descriptorsWanted suffices for 10,000 idle connections on both sides of a peer.
	descriptorsWanted = 65536
	// logTailBytes of a contender's log go into the error that it could not start.
	logTailBytes = 600
)

// cpus are the two cores of a run: everything that makes load on one, the contender on the other.
type cpus struct {
	generator int
	proxy     int
}

// lab is the bench that all scenarios work at: the generator, the launcher, a scratch folder.
type lab struct {
	ctx         context.Context
	cancel      context.CancelFunc
	options     *options
	contenders  []*peers.Contender
	output      io.Writer
	cpus        cpus
	folder      string
	descriptors uint64
	launcher    *process.Launcher
	ended       chan struct{} // the launcher has stopped everything
	generator   *generatorClient
	starts      int
	certificate string // file; its key has the same name with .key after it, as haproxy wants it
}

func openLab(ctx context.Context, o *options, contenders []*peers.Contender, output io.Writer) (_ *lab, err error) {
	l := &lab{options: o, contenders: contenders, output: output, launcher: process.NewLauncher(), ended: make(chan struct{})}
	if l.cpus, err = chooseCPUs(); err != nil {
		return nil, err
	}
	if l.descriptors, err = process.RaiseDescriptorLimit(descriptorsWanted); err != nil {
		return nil, err
	}
	if l.folder, err = os.MkdirTemp("", "rauta-loadtest-"); err != nil {
		return nil, fmt.Errorf("making a scratch folder: %w", err)
	}
	l.certificate = filepath.Join(l.folder, "certificate.pem")
	if err := writeCertificate(l.certificate, l.certificate+".key"); err != nil {
		os.RemoveAll(l.folder)
		return nil, err
	}
	l.ctx, l.cancel = context.WithCancel(ctx)
	go func() {
		defer close(l.ended)
		l.launcher.Run(l.ctx)
	}()
	if l.generator, err = l.startGenerator(); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

func (l *lab) close() {
	l.cancel()
	<-l.ended
	os.RemoveAll(l.folder)
}

func chooseCPUs() (cpus, error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return cpus{}, fmt.Errorf("reading the CPU affinity: %w", err)
	}
	var allowed []int
	for cpu := 0; cpu < 1024 && len(allowed) < 2; cpu++ {
		if set.IsSet(cpu) {
			allowed = append(allowed, cpu)
		}
	}
	if len(allowed) < 2 {
		return cpus{}, errors.New("two CPU cores are needed: one for the load, one for the proxy")
	}
	return cpus{generator: allowed[0], proxy: allowed[1]}, nil
}

// generatorClient talks to the generator process.
type generatorClient struct {
	process       *process.Process
	commands      io.WriteCloser
	replies       *bufio.Reader
	backendPort   int
	backendH2Port int
	backendTLS    int // its port, as those below
	backendH2TLS  int
	backendUDP    int
}

func (l *lab) startGenerator() (*generatorClient, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("finding this program's own file: %w", err)
	}
	command := exec.Command(self, "generator")
	command.Stderr = os.Stderr
	commands, err := command.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("starting the generator: %w", err)
	}
	replies, err := command.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("starting the generator: %w", err)
	}
	g := &generatorClient{commands: commands, replies: bufio.NewReaderSize(replies, 1<<20)}
	if g.process, err = l.launcher.Start(l.ctx, command, l.cpus.generator, syscall.SIGKILL); err != nil {
		return nil, err
	}
	first, err := g.read()
	if err != nil {
		return nil, err
	}
	g.backendPort, g.backendH2Port, g.backendTLS = first.BackendPort, first.BackendH2Port, first.BackendTLS
	g.backendH2TLS, g.backendUDP = first.BackendH2TLS, first.BackendUDP
	return g, nil
}

func (g *generatorClient) read() (*generator.Reply, error) {
	line, err := g.replies.ReadBytes('\n')
	if err != nil {
		return nil, fmt.Errorf("the generator has ended: %w", err)
	}
	var reply generator.Reply
	if err := json.Unmarshal(line, &reply); err != nil {
		return nil, fmt.Errorf("reading the generator's reply: %w", err)
	}
	if reply.Error != "" {
		return nil, errors.New("generator: " + reply.Error)
	}
	return &reply, nil
}

// do runs one command to its end. When the context ends, the launcher ends the generator and with it the reply.
func (g *generatorClient) do(ctx context.Context, command *generator.Command) ([]*generator.Result, error) {
	text, err := json.Marshal(command)
	if err != nil {
		return nil, fmt.Errorf("writing a command: %w", err)
	}
	if _, err := g.commands.Write(append(text, '\n')); err != nil {
		return nil, errors.Join(ctx.Err(), fmt.Errorf("the generator has ended: %w", err))
	}
	reply, err := g.read()
	if err != nil {
		return nil, errors.Join(ctx.Err(), err)
	}
	if len(reply.Results) != len(command.Targets) {
		return nil, fmt.Errorf("the generator answers for %d targets, %d were given", len(reply.Results), len(command.Targets))
	}
	return reply.Results, nil
}

// entrant is a contender's part in a scenario; one contender may have several.
type entrant struct {
	label     string
	contender *peers.Contender
	routes    int
	speech    peers.Speech
}

// entered is an entrant that runs and answers.
type entered struct {
	entrant
	environment peers.Environment
	client      *http.Client // speaks what the entrant speaks
	process     *process.Process
	pids        []int
	readyAfter  time.Duration
}

// target describes a running entrant to the generator.
func (e *entered) target() generator.Target {
	return generator.Target{Name: e.label, Port: e.environment.Port, PIDs: e.pids}
}

func (l *lab) stop(e *entered) { l.launcher.Stop(e.process) }

// start configures and starts an entrant and waits until it answers on its last route.
func (l *lab) start(ctx context.Context, e entrant) (*entered, error) {
	l.starts++
	folder := filepath.Join(l.folder, fmt.Sprintf("start-%d", l.starts))
	if err := os.Mkdir(folder, 0o755); err != nil {
		return nil, fmt.Errorf("making a scratch folder: %w", err)
	}
	ports, err := freePorts(3)
	if err != nil {
		return nil, err
	}
	started := &entered{entrant: e, client: probeClient(e.speech), environment: peers.Environment{
		Folder: folder, Port: ports[0], AdminPort: ports[1], MetricsPort: ports[2], BackendPort: l.generator.backendPort,
		Routes: e.routes, Descriptors: l.descriptors, Certificate: l.certificate, Key: l.certificate + ".key", Speech: e.speech,
	}}
	switch {
	case e.speech.UDP:
		started.environment.BackendPort = l.generator.backendUDP
	case e.speech.BackendHTTP2 && e.speech.BackendTLS:
		started.environment.BackendPort = l.generator.backendH2TLS
	case e.speech.BackendHTTP2:
		started.environment.BackendPort = l.generator.backendH2Port
	case e.speech.BackendTLS || e.speech.Passthrough:
		started.environment.BackendPort = l.generator.backendTLS
	}
	command, err := e.contender.Command(started.environment)
	if err != nil {
		return nil, err
	}
	log, err := process.LogFile(filepath.Join(folder, "output.log"))
	if err != nil {
		return nil, fmt.Errorf("opening the log of %s: %w", e.label, err)
	}
	defer log.Close()
	command.Stdout, command.Stderr = log, log
	begin := time.Now()
	if started.process, err = l.launcher.Start(ctx, command, l.cpus.proxy, syscall.SIGTERM); err != nil {
		return nil, err
	}
	if err := started.waitReady(ctx); err != nil {
		l.stop(started)
		return nil, fmt.Errorf("%s does not answer: %w; its log ends with %q", e.label, err, tail(log.Name()))
	}
	started.readyAfter = time.Since(begin)
	if started.pids, err = procfs.Tree(started.process.PID); err != nil {
		l.stop(started)
		return nil, err
	}
	return started, nil
}

// freePorts finds ports that nobody uses. They are free again on return, so another program could take one: then the
// contender's own error says so.
func freePorts(count int) ([]int, error) {
	var ports []int
	for range count {
		port, err := testrig.Port()
		if err != nil {
			return nil, err
		}
		ports = append(ports, int(port))
	}
	return ports, nil
}

func tail(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-logTailBytes):])
}
