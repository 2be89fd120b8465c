package main

import (
	"bufio"
	"io"
	"os"
	"sync"
	"sync/atomic"

	"github.com/chzyer/readline"
	"golang.org/x/term"
)

// terminal is where lines are typed and messages shown, at the same time.
type terminal interface {
	io.Writer
	// ReadLine returns the next line; any error means that there is none.
	ReadLine() (string, error)
	// interactive tells whether a person types.
	interactive() bool
	Close() error
}

// openTerminal edits lines on a terminal, with completion and a history, in a file if it is not empty. It reads lines
// plainly from anything else.
func openTerminal(p *printer, history string, completer readline.AutoCompleter) (terminal, error) {
	file, ok := p.std.in.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return &plainLines{lines: bufio.NewScanner(p.std.in), out: p.std.out}, nil
	}
	keys := readline.NewCancelableStdin(file)
	cfg := &readline.Config{
		Prompt: "> ", Stdin: keys, Stdout: p.std.out, Stderr: p.std.err, HistoryFile: history, AutoComplete: completer,
		FuncGetWidth: func() int {
			if width, _, err := term.GetSize(int(file.Fd())); err == nil {
				return width
			}
			return 80
		},
	}
	if p.json { // the prompt and what is typed are not for programs
		cfg.Stdout, cfg.Stderr = p.std.err, p.std.out
	}
	rl, err := readline.NewEx(cfg)
	if err != nil {
		return nil, err
	}
	e := &editedLines{editor: rl, keys: keys, out: rl.Stdout()}
	if p.json {
		e.out = rl.Stderr()
	}
	return e, nil
}

// editedLines is a terminal; what is written appears above the line that is typed.
type editedLines struct {
	editor *readline.Instance
	keys   *readline.CancelableStdin
	out    io.Writer

	reading sync.Mutex // held while a line is read
	closed  atomic.Bool
}

func (e *editedLines) Write(data []byte) (int, error) { return e.out.Write(data) }

func (e *editedLines) ReadLine() (string, error) {
	e.reading.Lock()
	defer e.reading.Unlock()
	if e.closed.Load() {
		return "", io.EOF
	}
	line, err := e.editor.Readline()
	if e.closed.Load() { // half a line
		return "", io.EOF
	}
	return line, err
}

func (e *editedLines) interactive() bool { return true }

// Close ends ReadLine at once and restores the terminal. The editor's own Close waits for a key: it does not close the
// input that it reads from.
func (e *editedLines) Close() error {
	e.closed.Store(true)
	_ = e.keys.Close()
	e.reading.Lock() // until the editor has left the line
	defer e.reading.Unlock()
	return e.editor.Close()
}

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

func (p *plainLines) interactive() bool { return false }

func (p *plainLines) Close() error { return nil }
