package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/gorilla/websocket"
)

// relay is the floor: the frames that one of our messages takes, between two processes, and nothing else. It stores nothing,
// checks nothing, and every goroutine writes what it read without handing it to another one, so that what is left is what
// the sockets cost. It knows our frames by their first bytes.
type relay struct {
	users sync.Map // user → *relayUser
	other atomic.Pointer[relayLink]
}

type relayUser struct {
	mu   sync.Mutex // held while writing
	conn *websocket.Conn
}

func (u *relayUser) write(b []byte) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.conn.WriteMessage(websocket.TextMessage, b)
}

type relayLink struct {
	mu   sync.Mutex // held while writing
	conn net.Conn
}

// serveRelay runs a relay. With the address of another one it connects to that.
func serveRelay(ctx context.Context, peer string) (string, error) {
	r := &relay{}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	up := websocket.Upgrader{ReadBufferSize: 1024, WriteBufferSize: 1024, WriteBufferPool: &sync.Pool{}}
	mux := http.NewServeMux()
	mux.HandleFunc("/ws", func(w http.ResponseWriter, req *http.Request) {
		if conn, err := up.Upgrade(w, req, nil); err == nil {
			go r.serve(&relayUser{conn: conn})
		}
	})
	mux.HandleFunc("/peer", func(w http.ResponseWriter, _ *http.Request) {
		if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
			r.link(conn, bufio.NewReader(conn))
		}
	})
	srv := &http.Server{Handler: mux}
	go func() { _ = srv.Serve(l) }()
	if peer != "" {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", peer)
		if err != nil {
			return "", err
		}
		if _, err := fmt.Fprintf(conn, "GET /peer HTTP/1.1\r\nHost: relay\r\n\r\n"); err != nil {
			return "", err
		}
		go r.link(conn, bufio.NewReader(conn))
	}
	return l.Addr().String(), nil
}

// link takes what the other relay sends: a length, the user, a zero byte, and the frame.
func (r *relay) link(conn net.Conn, in *bufio.Reader) {
	r.other.Store(&relayLink{conn: conn})
	var size [4]byte
	for {
		if _, err := io.ReadFull(in, size[:]); err != nil {
			return
		}
		b := make([]byte, binary.BigEndian.Uint32(size[:]))
		if _, err := io.ReadFull(in, b); err != nil {
			return
		}
		to, frame, _ := bytes.Cut(b, []byte{0})
		if u, ok := r.users.Load(string(to)); ok {
			_ = u.(*relayUser).write(frame)
		}
	}
}

func (r *relay) serve(u *relayUser) {
	defer u.conn.Close()
	for {
		_, data, err := u.conn.ReadMessage()
		if err != nil {
			return
		}
		switch {
		case bytes.HasPrefix(data, []byte(`{"type":"80"`)):
			err = r.chat(u, data)
		case bytes.HasPrefix(data, []byte(`{"type":"90"`)):
			err = u.write(append([]byte(`{"type":"91","code":200,`), data[len(`{"type":"90",`):]...))
		default:
			_, rest, _ := bytes.Cut(data, []byte(`"token":"`))
			user, _, _ := bytes.Cut(rest, []byte(`"`))
			r.users.Store(string(user), u)
			err = u.write([]byte(`{"type":"11","code":200}`))
		}
		if err != nil {
			return
		}
	}
}

// chat forwards a message and answers it.
func (r *relay) chat(u *relayUser, data []byte) error {
	_, rest, _ := bytes.Cut(data, []byte(`"toId":"`))
	to, rest, _ := bytes.Cut(rest, []byte(`"`))
	_, rest, _ = bytes.Cut(rest, []byte(`"clientMsgId":"`))
	id, _, _ := bytes.Cut(rest, []byte(`"`))
	if link := r.other.Load(); link != nil {
		b := make([]byte, 4, len(data)+len(to)+64)
		b = append(append(b, to...), 0)
		b = append(append(b, `{"type":"80","msgId":"`...), id...)
		b = append(append(b, `",`...), data[len(`{"type":"80",`):]...)
		binary.BigEndian.PutUint32(b, uint32(len(b)-4)) //nolint:gosec // a frame
		link.mu.Lock()
		_, err := link.conn.Write(b)
		link.mu.Unlock()
		if err != nil {
			return err
		}
	}
	return u.write(fmt.Appendf(nil, `{"type":"81","code":200,"msgId":"%s","clientMsgId":"%s"}`, id, id))
}
