package presencechaos

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"github.com/imcluster/imcluster/api/wire"
)

// How long a gateway may take to answer; one that is stopped never does.
const (
	dialTimeout  = 2 * time.Second
	loginTimeout = 4 * time.Second
)

// frame is what a client says and hears of the protocol.
type frame struct {
	Type       string `json:"type"`
	Token      string `json:"token,omitempty"`
	DeviceID   string `json:"deviceId,omitempty"`
	Status     string `json:"status,omitempty"`
	StatusText string `json:"statusText,omitempty"`
	Code       int    `json:"code,omitempty"`
	Message    string `json:"message,omitempty"`
}

// Types of frames.
const (
	tLogin, tLoginResp, tLogout, tMove = "10", "11", "12", "31"
	tStatus, tStatusResp               = "56", "57"
)

// devices are the connections that are open, by gateway.
type devices struct {
	mu    sync.Mutex
	open  map[*device]struct{} // guarded by mu
	shaky map[string]struct{}  // gateways that were stopped: their leases may be about to end; guarded by mu
}

func newDevices() *devices {
	return &devices{open: map[*device]struct{}{}, shaky: map[string]struct{}{}}
}

// stands tells whether the sessions of a gateway are safe as long as nothing more happens to it.
func (s *devices) stands(gateway string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, shaky := s.shaky[gateway]
	return !shaky
}

// calm says that all gateways have had the time to renew their leases, or to find that they had ended.
func (s *devices) calm() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.shaky)
}

// hit says that the connections of a gateway may be lost from now on.
func (s *devices) hit(gateway string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shaky[gateway] = struct{}{}
	for d := range s.open {
		if d.gateway == gateway {
			d.leaving(time.Now())
		}
	}
}

func (s *devices) add(d *device) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open[d] = struct{}{}
}

func (s *devices) remove(d *device) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, d)
}

// device is one connection of a device.
type device struct {
	// Fixed.
	id       int
	gateway  string
	user     string
	name     string
	rec      *recorder
	ws       *websocket.Conn
	answers  chan frame    // to what was asked
	down     chan struct{} // closed when the connection is
	doubtful bool          // the login was not answered; fixed before the connection ends

	mu    sync.Mutex
	asked time.Time // when the gateway asked it to move, zero if it has not; guarded by mu
}

func (d *device) event(k Kind, at time.Time) {
	d.rec.add(Event{Kind: k, At: at, User: d.user, Device: d.name, Conn: d.id, Note: d.gateway, Doubtful: k == Down && d.doubtful})
}

func (d *device) leaving(at time.Time) { d.event(Leaving, at) }

// errRefused says that a gateway answered with another code than 200.
var errRefused = errors.New("refused")

// login connects a device of a user, perhaps with a status. Without an error it is connected.
func (w *World) login(ctx context.Context, n int, user, name string, s *frame) (*device, error) {
	addr, label := w.address(n)
	d := &device{id: w.rec.conn(), gateway: label, user: user, name: name, rec: w.rec, answers: make(chan frame, 4), down: make(chan struct{}), doubtful: true}
	d.event(Connecting, time.Time{})
	dialer := websocket.Dialer{HandshakeTimeout: dialTimeout, NetDialContext: (&net.Dialer{Timeout: dialTimeout}).DialContext}
	ws, resp, err := dialer.DialContext(ctx, "ws://"+addr+"/ws", nil)
	if err != nil {
		d.doubtful = false
		d.event(Down, time.Time{})
		return nil, err
	}
	_ = resp.Body.Close()
	d.ws = ws
	w.devices.add(d)
	opened := make(chan struct{})
	go func() {
		<-opened // the login is dealt with
		<-d.down
		w.devices.remove(d)
	}()
	first := make(chan frame, 1)
	go d.read(first, opened)
	login := frame{Type: tLogin, Token: user, DeviceID: name}
	if s != nil {
		login.Status, login.StatusText = s.Status, s.StatusText
	}
	err = d.logIn(login, first)
	if err == nil && !w.devices.stands(label) {
		d.leaving(time.Time{})
	}
	close(opened)
	if err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

func (d *device) logIn(login frame, answers <-chan frame) error {
	if err := d.send(login); err != nil {
		return err
	}
	select {
	case f := <-answers:
		d.doubtful = false
		if f.Code != int(wire.CodeOK) {
			return fmt.Errorf("%w: %d %s", errRefused, f.Code, f.Message)
		}
		d.event(Up, time.Time{})
		return nil
	case <-d.down:
		return errors.New("the connection ended before the login was answered")
	case <-time.After(loginTimeout):
		return errors.New("the login was not answered")
	}
}

func (d *device) send(f frame) error {
	_ = d.ws.SetWriteDeadline(time.Now().Add(dialTimeout))
	return d.ws.WriteJSON(f)
}

// read hears until the connection ends, which it records when the login is dealt with.
func (d *device) read(first chan<- frame, opened <-chan struct{}) {
	defer close(d.down)
	var ended error
	for {
		var f frame
		if ended = d.ws.ReadJSON(&f); ended != nil {
			break
		}
		switch f.Type {
		case tLoginResp:
			select {
			case first <- f:
			default:
			}
		case tMove:
			d.mu.Lock()
			d.asked = time.Now()
			d.mu.Unlock()
		case tStatusResp:
			select {
			case d.answers <- f:
			default:
			}
		}
	}
	at := time.Now()
	_ = d.ws.Close()
	go func() {
		<-opened
		d.mu.Lock()
		if !d.asked.IsZero() {
			at = d.asked
		}
		d.mu.Unlock()
		d.rec.add(Event{Kind: Leaving, At: at, User: d.user, Device: d.name, Conn: d.id, Note: ended.Error()})
		d.event(Down, time.Time{})
	}()
}

// alive tells whether the connection is open.
func (d *device) alive() bool {
	select {
	case <-d.down:
		return false
	default:
		return true
	}
}

// toMove tells whether the gateway has asked the device to move.
func (d *device) toMove() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return !d.asked.IsZero()
}

// close ends the connection as one that is lost.
func (d *device) close() {
	d.leaving(time.Time{})
	_ = d.ws.Close()
	<-d.down
}

// logout ends the connection cleanly, or, if the gateway does not answer, not.
func (d *device) logout() {
	d.leaving(time.Time{})
	if d.send(frame{Type: tLogout}) == nil {
		select {
		case <-d.down:
			return
		case <-time.After(dialTimeout):
		}
	}
	_ = d.ws.Close()
	<-d.down
}

// setStatus sets the status of the user. An error leaves open whether it did.
func (d *device) setStatus(status, text string) error {
	d.rec.add(Event{Kind: Setting, User: d.user, Status: status})
	if err := d.send(frame{Type: tStatus, Status: status, StatusText: text}); err != nil {
		return err
	}
	select {
	case f := <-d.answers:
		if f.Code != int(wire.CodeOK) {
			return fmt.Errorf("%w: %d %s", errRefused, f.Code, f.Message)
		}
		d.rec.add(Event{Kind: Set, User: d.user, Status: status})
		return nil
	case <-d.down:
		return errors.New("the connection ended before the status was answered")
	case <-time.After(loginTimeout):
		return errors.New("the status was not answered")
	}
}
