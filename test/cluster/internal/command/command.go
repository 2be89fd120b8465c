// Package command runs other programs to their end.
package command

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Runner runs programs. Its zero value is ready for use.
type Runner struct {
	// Env is added to this process's environment.
	Env []string
}

// Run runs a program and returns its standard output. The error of one that fails has its standard error.
func (r Runner) Run(ctx context.Context, program string, args ...string) (string, error) {
	return r.runWithInput(ctx, "", program, args...)
}

func (r Runner) runWithInput(ctx context.Context, input, program string, args ...string) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(os.Environ(), r.Env...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %q: %w: %s", filepath.Base(program), args, err, bytes.TrimSpace(stderr.Bytes()))
	}
	return stdout.String(), nil
}

// Run runs a program by the zero Runner.
func Run(ctx context.Context, program string, args ...string) (string, error) {
	return Runner{}.Run(ctx, program, args...)
}

// Kubectl runs kubectl on one cluster.
type Kubectl struct {
	Runner     Runner
	Program    string
	Kubeconfig string
}

// Run runs kubectl. It gives up on a server that does not answer for 10 s.
func (k Kubectl) Run(ctx context.Context, args ...string) (string, error) {
	return k.RunWithInput(ctx, "", args...)
}

// RunWithInput is Run with something to read for kubectl.
func (k Kubectl) RunWithInput(ctx context.Context, input string, args ...string) (string, error) {
	args = append([]string{"--kubeconfig", k.Kubeconfig, "--request-timeout=10s"}, args...)
	return k.Runner.runWithInput(ctx, input, k.Program, args...)
}

// ContainerID returns the container runtime's id of a container of a pod.
func (k Kubectl) ContainerID(ctx context.Context, namespace, pod, container string) (string, error) {
	output, err := k.Run(ctx, "--namespace", namespace, "get", "pod", pod,
		"--output", fmt.Sprintf(`jsonpath={.status.containerStatuses[?(@.name==%q)].containerID}`, container))
	if err != nil {
		return "", err
	}
	_, id, ok := strings.Cut(output, "://")
	if !ok {
		return "", fmt.Errorf("pod %s/%s has no running container %s", namespace, pod, container)
	}
	return id, nil
}
