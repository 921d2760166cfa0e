package cluster

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// container is one process of a pod, started again when it ends.
type container struct {
	pod     *pod
	spec    *corev1.Container
	volumes map[string]string // name -> folder
	ended   chan struct{}     // closed when it will not be started any more

	mu       sync.Mutex
	process  *Process // nil while it does not run
	restarts int32
	why      string // it does not run
}

func (p *pod) newContainer(spec *corev1.Container, volumes map[string]string) *container {
	return &container{pod: p, spec: spec, volumes: volumes, ended: make(chan struct{})}
}

func (c *container) running() *Process {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.process
}

// keepRunning starts the process, again and again, until the pod ends.
func (c *container) keepRunning() {
	defer close(c.ended)
	for delay := time.Duration(0); ; delay = min(2*delay+pollInterval, restartDelayMax) {
		c.once()
		select {
		case <-c.pod.terminating:
			return
		case <-c.pod.ctx.Done():
			return
		case <-time.After(noticeDelay):
		}
		c.pod.notReady()
		time.Sleep(delay)
		c.mu.Lock()
		c.restarts++
		c.mu.Unlock()
	}
}

// runOnce runs an init container until it succeeds.
func (c *container) runOnce() {
	defer close(c.ended)
	for c.pod.ctx.Err() == nil {
		if c.once() {
			return
		}
		time.Sleep(volumeRetryDelay)
	}
}

// once runs the process until it ends or the pod does, and reports whether it ended well.
func (c *container) once() bool {
	process, err := c.start()
	c.mu.Lock()
	c.process, c.why = process, ""
	if err != nil {
		c.why = err.Error()
	}
	c.mu.Unlock()
	if err != nil {
		return false
	}
	select {
	case <-process.exited:
	case <-c.pod.ctx.Done():
		process.Kill()
	}
	c.mu.Lock()
	c.process, c.why = nil, "it has ended"
	c.mu.Unlock()
	return process.ExitCode() == 0
}

// programOf returns the program that stands for an image: what its name ends with.
func programOf(image string) string {
	name, _, _ := strings.Cut(image, "@")
	name = name[strings.LastIndexByte(name, '/')+1:]
	name, _, _ = strings.Cut(name, ":")
	return Path(name)
}

func (c *container) start() (*Process, error) {
	program := programOf(c.spec.Image)
	if _, err := os.Stat(program); err != nil {
		return nil, fmt.Errorf("no program stands for the image %s: %w", c.spec.Image, err)
	}
	environment, err := c.environment()
	if err != nil {
		return nil, err
	}
	var arguments []string
	if len(c.spec.Command) > 1 {
		arguments = append(arguments, c.spec.Command[1:]...) // the first is the program, which the image decides here
	}
	arguments = append(arguments, c.spec.Args...)
	for i := range arguments {
		arguments[i] = c.local(expand(arguments[i], environment))
	}
	command, err := podCommand(podTask{Program: program, Arguments: arguments, Credentials: c.credentials()})
	if err != nil {
		return nil, err
	}
	command.Env = append(command.Env, environment...)
	command.SysProcAttr.Setpgid = true
	return start(c.spec.Name, c.pod.node.logPath(c.pod.object.Namespace, c.pod.object.Name, c.spec.Name), command)
}

// end asks the process to end, after what preStop asks for.
func (c *container) end() {
	if l := c.spec.Lifecycle; l != nil && l.PreStop != nil && l.PreStop.Sleep != nil {
		select {
		case <-time.After(time.Duration(l.PreStop.Sleep.Seconds) * time.Second):
		case <-c.pod.ctx.Done():
		}
	}
	if process := c.running(); process != nil {
		process.Signal(syscall.SIGTERM)
	}
}

// local returns the path of a file in a volume as it is on this machine.
func (c *container) local(path string) string {
	for _, m := range c.spec.VolumeMounts {
		for _, at := range []string{path, path[strings.IndexByte(path, '=')+1:]} { // also --flag=path
			if rest, ok := strings.CutPrefix(at, m.MountPath); ok && (rest == "" || rest[0] == '/') && m.MountPath != serviceAccountFolder {
				return strings.TrimSuffix(path, at) + filepath.Join(c.volumes[m.Name], m.SubPath) + rest
			}
		}
	}
	return path
}

// credentials returns the folder with the credentials of the service account, if the pod has one.
func (c *container) credentials() string {
	for _, m := range c.spec.VolumeMounts {
		if m.MountPath == serviceAccountFolder {
			return c.volumes[m.Name]
		}
	}
	return ""
}

func (c *container) status(ready bool) corev1.ContainerStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	started := c.process != nil
	s := corev1.ContainerStatus{
		Name: c.spec.Name, Image: c.spec.Image, Ready: ready && started, Started: &started, RestartCount: c.restarts,
	}
	if started {
		s.State.Running = &corev1.ContainerStateRunning{StartedAt: c.pod.started}
	} else {
		s.State.Waiting = &corev1.ContainerStateWaiting{Reason: "NotRunning", Message: c.why}
	}
	return s
}

// podTask is what a process does before it becomes the program of a container.
type podTask struct {
	Program     string
	Arguments   []string
	Credentials string // a folder, "" if there are none
}

// podCommand returns a command with mounts of its own: client-go looks for credentials at one fixed path.
func podCommand(task podTask) (*exec.Cmd, error) {
	text, err := encode(task)
	c := exec.Command("/proc/self/exe")
	c.Env = []string{podVariable + "=" + text}
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	return c, err
}
