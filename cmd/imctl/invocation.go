package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// invocation is what to type to run this program again.
func invocation() string {
	path, err := os.Executable()
	if err != nil {
		return "imctl"
	}
	directory, err := os.Getwd()
	if err != nil {
		return path
	}
	return invocationOf(path, directory)
}

// invocationOf is what to type in directory to run the program at path.
func invocationOf(path, directory string) string {
	const source = "./cmd/imctl"
	if strings.Contains(path, string(filepath.Separator)+"go-build") { // of "go run": it goes away with the process
		if _, err := os.Stat(filepath.Join(directory, source)); err == nil {
			return "go run " + source
		}
		return "imctl"
	}
	if found, err := exec.LookPath("imctl"); err == nil && sameFile(found, path) {
		return "imctl"
	}
	relative, err := filepath.Rel(directory, path)
	switch {
	case err != nil || strings.HasPrefix(relative, ".."):
		return path
	case !strings.ContainsRune(relative, filepath.Separator):
		return "./" + relative
	}
	return relative
}

func sameFile(a, b string) bool {
	x, errX := os.Stat(a)
	y, errY := os.Stat(b)
	return errX == nil && errY == nil && os.SameFile(x, y)
}
