package cluster

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

func encode(task podTask) (string, error) {
	text, err := json.Marshal(task)
	return string(text), err
}

// becomePod turns this process into the program of a container. It returns only if it fails.
func becomePod() error {
	var task podTask
	if err := json.Unmarshal([]byte(os.Getenv(podVariable)), &task); err != nil {
		return err
	}
	if task.Credentials != "" {
		// Mounts of the namespace that this one was made from must not show up there.
		if err := unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return fmt.Errorf("keep mounts to ourselves: %w", err)
		}
		if err := unix.Mount(task.Credentials, serviceAccountFolder, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount the credentials: %w", err)
		}
	}
	var environment []string
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, podVariable+"=") {
			environment = append(environment, e)
		}
	}
	return syscall.Exec(task.Program, append([]string{task.Program}, task.Arguments...), environment)
}
