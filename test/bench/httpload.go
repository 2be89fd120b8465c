package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// httpLoad asks a server in a closed loop, on connections that stay open. It writes requests that were made before the clock
// runs, and of an answer reads only the status and the length, so that the load costs little and the same for every server.
type httpLoad struct {
	addr     string
	requests [][]byte // whole requests, each with a Content-Length
	conns    int
}

// httpResult is one round.
type httpResult struct {
	calls    int
	elapsed  time.Duration
	p50, p99 time.Duration
}

func (r httpResult) rate() float64 { return float64(r.calls) / r.elapsed.Seconds() }

// run asks for as long as d.
func (l *httpLoad) run(ctx context.Context, d time.Duration) (httpResult, error) {
	var mu sync.Mutex
	var took []time.Duration
	start := time.Now()
	g, ctx := errgroup.WithContext(ctx)
	for i := range l.conns {
		g.Go(func() error {
			mine, err := l.loop(ctx, i, start.Add(d))
			mu.Lock()
			defer mu.Unlock()
			took = append(took, mine...)
			return err
		})
	}
	err := g.Wait()
	r := httpResult{calls: len(took), elapsed: time.Since(start)}
	if len(took) > 0 {
		slices.Sort(took)
		r.p50, r.p99 = took[len(took)/2], took[len(took)*99/100]
	}
	return r, err
}

func (l *httpLoad) loop(ctx context.Context, i int, end time.Time) (took []time.Duration, err error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", l.addr)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	in := bufio.NewReaderSize(conn, 64<<10)
	for n := i; ; n++ {
		begin := time.Now()
		if begin.After(end) || ctx.Err() != nil {
			return took, ctx.Err()
		}
		if _, err := conn.Write(l.requests[n%len(l.requests)]); err != nil {
			return took, err
		}
		if err := discardAnswer(in); err != nil {
			return took, err
		}
		took = append(took, time.Since(begin))
	}
}

// discardAnswer reads an answer, which must be 200 and tell its length.
func discardAnswer(in *bufio.Reader) error {
	line, err := in.ReadSlice('\n')
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(line, []byte("HTTP/1.1 200")) {
		rest := make([]byte, 512)
		n, _ := in.Read(rest)
		return fmt.Errorf("the server answered %q %q", line, rest[:n])
	}
	length := -1
	for {
		line, err = in.ReadSlice('\n')
		if err != nil {
			return err
		}
		if line = bytes.TrimSpace(line); len(line) == 0 {
			break
		}
		const name = "content-length:"
		if len(line) > len(name) && bytes.EqualFold(line[:len(name)], []byte(name)) {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(line[len(name):]))); err != nil {
				return err
			}
		}
	}
	if length < 0 {
		return errors.New("the answer does not tell its length")
	}
	_, err = in.Discard(length)
	if n := in.Buffered(); err == nil && n > 0 {
		err = fmt.Errorf("%d bytes follow the answer", n)
	}
	return err
}
