package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/imcluster/imcluster/client"
)

// hookFlags say what to run for each message.
type hookFlags struct {
	OnMessage string        `name:"on-message" placeholder:"COMMAND" help:"Run a shell command for each message, which gets it as JSON on standard input and as IMC_MESSAGE_… in its environment. The message is acknowledged when the command exits with 0; otherwise it comes again."`
	AckAlways bool          `name:"ack-always" help:"Acknowledge a message however its command ends."`
	Parallel  int           `default:"1" help:"How many commands run at once. Messages of one user, or in one group, are always handled one after the other. Default: ${default}"`
	Limit     time.Duration `name:"on-message-timeout" default:"1m" help:"How long a command may take until it is ended. Default: ${default}"`
}

const (
	// maxBacklog is how many messages may wait for a command; the others wait in the client and on the server.
	maxBacklog = 1000
	// maxTextEnv bounds the text in the environment: Linux takes 128 KiB a variable. Standard input has it all.
	maxTextEnv = 64 << 10
	// killDelay is what a command that is interrupted gets to end by itself.
	killDelay = 5 * time.Second
)

// hook runs commands for messages: bounded in number, and in order within a conversation, which is a user or a group.
type hook struct {
	flags hookFlags
	chat  *client.Client
	out   io.Writer
	warn  func(format string, args ...any)

	ctx     context.Context // of the commands
	cancel  context.CancelFunc
	room    chan struct{} // for messages that wait
	slots   chan struct{} // for commands that run
	quit    chan struct{} // closed when no more are started
	running sync.WaitGroup

	mu      sync.Mutex
	waiting map[string][]client.Message // by conversation; a conversation is there while a goroutine handles it
	stopped bool
}

func newHook(flags hookFlags, p *printer) *hook {
	h := &hook{flags: flags, out: p.std.out, warn: p.warn, waiting: map[string][]client.Message{},
		room: make(chan struct{}, maxBacklog), slots: make(chan struct{}, max(flags.Parallel, 1)), quit: make(chan struct{})}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	return h
}

// take queues a message, and blocks while too many wait.
func (h *hook) take(ctx context.Context, m client.Message) {
	select {
	case h.room <- struct{}{}:
	case <-h.quit:
		return
	case <-ctx.Done():
		return
	}
	conversation := "user " + m.From
	if m.Group != "" {
		conversation = "group " + m.Group
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.stopped {
		return
	}
	queue, handled := h.waiting[conversation]
	h.waiting[conversation] = append(queue, m)
	if !handled {
		h.running.Go(func() { h.drain(conversation) })
	}
}

// drain handles a conversation until nothing waits.
func (h *hook) drain(conversation string) {
	for {
		h.mu.Lock()
		queue := h.waiting[conversation]
		if len(queue) == 0 || h.stopped {
			delete(h.waiting, conversation)
			h.mu.Unlock()
			return
		}
		m := queue[0]
		h.waiting[conversation] = queue[1:]
		h.mu.Unlock()
		h.slots <- struct{}{}
		h.handle(m)
		<-h.slots
		<-h.room
	}
}

// handle runs the command, and acknowledges the message or gives it back.
func (h *hook) handle(m client.Message) {
	err := h.run(m)
	if err != nil {
		h.warn("The command for message %s of %s failed: %s", m.ID, printable(m.From), printable(err.Error()))
	}
	if m.Broadcast() {
		return // nobody asks
	}
	if err != nil && !h.flags.AckAlways {
		h.chat.Nack(m.ID)
		return
	}
	if err := h.chat.Ack(h.ctx, m.ID); err != nil {
		h.warn("Message %s is not acknowledged yet: %s", m.ID, printable(err.Error()))
	}
}

func (h *hook) run(m client.Message) error {
	var stdin bytes.Buffer
	encoder := json.NewEncoder(&stdin)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(messageOf(m)); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(h.ctx, h.flags.Limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", h.flags.OnMessage)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = &stdin, h.out, h.out
	cmd.Env = append(os.Environ(), messageEnv(m)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = killDelay
	err := cmd.Run()
	if ctx.Err() != nil && h.ctx.Err() == nil {
		return fmt.Errorf("it took longer than %s", h.flags.Limit)
	}
	return err
}

// messageEnv is the message for a shell. The names are not those of flags, which a command that runs imctl would take for
// its own.
func messageEnv(m client.Message) []string {
	text := strings.ReplaceAll(m.Text(), "\x00", "")
	if len(text) > maxTextEnv {
		text = ""
	}
	return []string{
		"IMC_MESSAGE_ID=" + m.ID,
		"IMC_MESSAGE_FROM=" + m.From,
		"IMC_MESSAGE_TO=" + m.To,
		"IMC_MESSAGE_GROUP=" + m.Group,
		"IMC_MESSAGE_BROADCAST=" + strconv.FormatBool(m.Broadcast()),
		"IMC_MESSAGE_TIME=" + m.Time.UTC().Format(time.RFC3339Nano),
		"IMC_MESSAGE_TEXT=" + text,
		"IMC_MESSAGE_REDELIVERED=" + strconv.FormatBool(m.Redelivered),
		"IMC_MESSAGE_MISSED=" + strconv.Itoa(m.Missed),
	}
}

// stop starts no more commands, and waits for those that run until ctx ends; then they are interrupted.
func (h *hook) stop(ctx context.Context) {
	h.mu.Lock()
	h.stopped = true
	close(h.quit)
	h.mu.Unlock()
	stop := context.AfterFunc(ctx, h.cancel)
	h.running.Wait()
	stop()
	h.cancel()
}
