package main

import (
	"net"
	"sync"
)

// batch is the connection of a client that writes what it has queued when it is about to wait for input, all in one system
// call: what a client says because of what came together leaves together. With a system call for each frame the clients took
// 18.6 µs of processor time for one of our messages, as much as the servers that are measured on the same processors.
type batch struct {
	net.Conn
	wait func() // called before it waits for input, if not nil; only changed while nobody reads

	mu    sync.Mutex // held while writing
	queue []byte
	err   error // of the last write that failed
}

// Write queues.
func (b *batch) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.queue = append(b.queue, p...)
	return len(p), b.err
}

// flush writes what is queued. An error is that of the next Write or Read.
func (b *batch) flush() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.queue) > 0 {
		_, b.err = b.Conn.Write(b.queue)
		b.queue = b.queue[:0]
	}
}

// Read is called when all input that there was is used up.
func (b *batch) Read(p []byte) (int, error) {
	b.flush()
	if b.wait != nil {
		b.wait()
	}
	return b.Conn.Read(p)
}
