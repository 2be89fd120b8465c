package main

import (
	"bufio"
	"io"
	"os"
	"sync"

	"github.com/chzyer/readline"
	"golang.org/x/term"
)

// terminal is where lines are typed and messages shown, at the same time.
type terminal interface {
	io.Writer
	// ReadLine returns the next line; any error means that there is none.
	ReadLine() (string, error)
	Close() error
}

// openTerminal edits lines on a terminal, with history, and reads them plainly from anything else.
func openTerminal(p *printer) (terminal, error) {
	file, ok := p.std.in.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return &plainLines{lines: bufio.NewScanner(p.std.in), out: p.std.out}, nil
	}
	rl, err := readline.NewEx(&readline.Config{Prompt: "> ", Stdout: p.std.out})
	if err != nil {
		return nil, err
	}
	return &editedLines{rl}, nil
}

// editedLines is a terminal; what is written appears above the line that is typed.
type editedLines struct{ *readline.Instance }

func (e *editedLines) ReadLine() (string, error) { return e.Readline() }

// plainLines is a file or a pipe.
type plainLines struct {
	lines *bufio.Scanner

	mu  sync.Mutex
	out io.Writer
}

func (p *plainLines) ReadLine() (string, error) {
	if p.lines.Scan() {
		return p.lines.Text(), nil
	}
	if err := p.lines.Err(); err != nil {
		return "", err
	}
	return "", io.EOF
}

func (p *plainLines) Write(data []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.Write(data)
}

func (p *plainLines) Close() error { return nil }
