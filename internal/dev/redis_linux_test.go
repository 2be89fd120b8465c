package dev_test

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/imcluster/imcluster/internal/dev"
)

// TestRedisEndsWithItsProcess kills a process that runs a platform, as a closed terminal or an impatient user does.
func TestRedisEndsWithItsProcess(t *testing.T) {
	const child = "IMCLUSTER_TEST_DEV_CHILD"
	if os.Getenv(child) != "" {
		p := start(t, dev.Config{})
		fmt.Println("redis " + p.RedisAddress)
		select {}
	}
	t.Parallel()
	cmd := exec.Command(os.Args[0], "-test.run=^TestRedisEndsWithItsProcess$")
	cmd.Env = append(os.Environ(), child+"=1", "TMPDIR="+t.TempDir()) // nobody is left to clean up
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	address := ""
	for lines := bufio.NewScanner(out); address == "" && lines.Scan(); {
		address, _ = strings.CutPrefix(lines.Text(), "redis ")
	}
	if conn, err := net.Dial("tcp", address); err != nil {
		t.Errorf("redis at %q does not run: %v", address, err)
	} else {
		_ = conn.Close()
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	for deadline := time.Now().Add(10 * time.Second); ; {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			return
		}
		_ = conn.Close()
		if time.Now().After(deadline) {
			t.Fatal("redis outlived its process")
		}
		<-time.After(10 * time.Millisecond)
	}
}
