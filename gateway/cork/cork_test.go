package cork

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// pair is a corked connection and its peer.
func pair(t *testing.T) (*Conn, net.Conn) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	peer, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := Listener{l.(*net.TCPListener)}.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { peer.Close(); conn.Close() })
	return conn.(*Conn), peer
}

// read returns what the peer gets within a moment, at least one byte.
func read(t *testing.T, peer net.Conn, n int) []byte {
	t.Helper()
	_ = peer.SetReadDeadline(time.Now().Add(10 * time.Second))
	b := make([]byte, n)
	if _, err := io.ReadFull(peer, b); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestCorkedWritesLeaveTogether(t *testing.T) {
	c, peer := pair(t)
	c.Cork()
	for range 16 {
		// A deadline while corked is not for the socket.
		_ = c.SetWriteDeadline(time.Unix(1, 0))
		if n, err := c.Write([]byte("frame")); n != 5 || err != nil {
			t.Fatal(n, err)
		}
	}
	_ = peer.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	if n, err := peer.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%d bytes left while corked: %v", n, err)
	}
	if err := c.Uncork(time.Second); err != nil {
		t.Fatal(err)
	}
	if got := read(t, peer, 16*5); !bytes.Equal(got, bytes.Repeat([]byte("frame"), 16)) {
		t.Errorf("got %q", got)
	}
	if _, err := c.Write([]byte("x")); err != nil || string(read(t, peer, 1)) != "x" {
		t.Errorf("a write without cork: %v", err)
	}
	if err := c.Uncork(time.Second); err != nil {
		t.Errorf("an empty cork: %v", err)
	}
}

func TestOrderIsKeptWhateverTheSizes(t *testing.T) {
	c, peer := pair(t)
	var want []byte
	sizes := []int{10, maxBuffered, 5, maxBuffered + 1, 7, maxBuffered - 1, 3}
	for i, size := range sizes {
		want = append(want, bytes.Repeat([]byte{byte(i)}, size)...)
	}
	got := make(chan []byte)
	go func() { got <- read(t, peer, len(want)) }()
	c.Cork()
	for i, size := range sizes {
		if _, err := c.Write(bytes.Repeat([]byte{byte(i)}, size)); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Uncork(time.Second); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(<-got, want) {
		t.Error("the bytes left in another order")
	}
}

// TestHurryEndsAWriteThatIsStuck: the peer reads nothing.
func TestHurryEndsAWriteThatIsStuck(t *testing.T) {
	c, _ := pair(t)
	done := make(chan error, 1)
	go func() {
		for {
			c.Cork()
			_, _ = c.Write(make([]byte, maxBuffered))
			if err := c.Uncork(time.Hour); err != nil {
				done <- err
				return
			}
		}
	}()
	for {
		select {
		case err := <-done:
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("got %v", err)
			}
			return
		case <-time.After(20 * time.Millisecond):
			c.Hurry(time.Millisecond)
		}
	}
}

func TestVectoredWriteAfterFlushKeepsTheOrder(t *testing.T) {
	c, peer := pair(t)
	c.Cork()
	_, _ = c.Write([]byte("first "))
	if err := c.Flush(time.Second); err != nil {
		t.Fatal(err)
	}
	if _, err := (&net.Buffers{[]byte("second "), []byte("third ")}).WriteTo(c); err != nil {
		t.Fatal(err)
	}
	_, _ = c.Write([]byte("fourth"))
	if err := c.Uncork(time.Second); err != nil {
		t.Fatal(err)
	}
	const want = "first second third fourth"
	if got := string(read(t, peer, len(want))); got != want {
		t.Errorf("got %q", got)
	}
}

// TestTryUncorkLeavesWhatTheSocketDoesNotTake: the peer reads nothing until the socket is full.
func TestTryUncorkLeavesWhatTheSocketDoesNotTake(t *testing.T) {
	c, peer := pair(t)
	written, done := 0, true
	for done {
		c.Cork()
		n, err := c.Write(bytes.Repeat([]byte{byte(written / maxBuffered)}, maxBuffered))
		if err != nil {
			t.Fatal(err)
		}
		written += n
		if done, err = c.TryUncork(); err != nil {
			t.Fatal(err)
		}
	}
	rest := make(chan error, 1)
	go func() { rest <- c.Uncork(time.Minute) }()
	got := read(t, peer, written)
	if err := <-rest; err != nil {
		t.Fatal(err)
	}
	for i, b := range got {
		if b != byte(i/maxBuffered) {
			t.Fatalf("byte %d is of write %d", i, b)
		}
	}
}

// TestAnEarlierDeadlineDoesNotEndLaterWrites: the one of a write that had to wait passes while nothing is written.
func TestAnEarlierDeadlineDoesNotEndLaterWrites(t *testing.T) {
	c, peer := pair(t)
	c.Hurry(-time.Second)
	c.Cork()
	_, _ = c.Write([]byte("frame"))
	if done, err := c.TryUncork(); !done || err != nil {
		t.Fatal(done, err)
	}
	read(t, peer, 5)
}
