package gateway

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/imcluster/imcluster/api/wire"
	"github.com/imcluster/imcluster/internal/secretdir"
	"github.com/imcluster/imcluster/internal/testredis"
	"github.com/imcluster/imcluster/presence"
	"github.com/imcluster/imcluster/presence/store"
)

const protocolDoc = "../docs/protocol.md"

func readDoc(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestExamplesOfTheProtocolPage executes the blocks marked as frames, each on a Redis with nothing in it: "name → frame" is
// sent on the connection of that name, "name ← frame" must come next on it, byte for byte except for "…", "name ← close N"
// ends it, and after "name → disconnect", which breaks it, the name stands for a new connection. Everything that is sent and
// received is valid by the published schemas.
func TestExamplesOfTheProtocolPage(t *testing.T) {
	blocks := strings.Split(readDoc(t, protocolDoc), "```frames\n")[1:]
	if len(blocks) < 9 {
		t.Fatalf("only %d examples", len(blocks))
	}
	redis := testredis.Start(t)
	schemas := map[string]*jsonschema.Resolved{"→": readSchema(t, "client"), "←": readSchema(t, "server")}
	for i, block := range blocks {
		block, _, _ = strings.Cut(block, "```")
		t.Run(fmt.Sprint(i+1), func(t *testing.T) {
			redis.MustDo("FLUSHALL")
			g := startGateway(t, newWorld(), func(c *Config) {
				c.join = nil
				c.Store = store.Config{Addresses: []string{redis.Addr}, Owner: "cluster", Fresh: true}
				c.AllowBroadcast, c.AllowOnlineList = true, true
				c.PresenceAddress = startPresence(t, c.Store)
			})
			awaitHealth(t, g)
			example := &example{TB: t, g: g, clients: map[string]*client{}, schemas: schemas}
			for line := range strings.Lines(block) {
				example.do(strings.TrimSpace(line))
			}
		})
	}
}

// startPresence runs a presence pod until the test ends, and returns where it answers gRPC.
func startPresence(t *testing.T, at store.Config) string {
	t.Helper()
	p, err := presence.New(presence.Config{Listen: "127.0.0.1:0", GRPCListen: "127.0.0.1:0", Store: at,
		APIKey: secretdir.Static([]byte("api key")), PeerKey: secretdir.Static([]byte("peer key"))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("presence ended with: %v", err)
		}
	})
	eventually(t, "presence is ready", p.Ready)
	return p.GRPCAddr().String()
}

// awaitHealth waits until presence has loaded what there is: until then answers say that they are degraded.
func awaitHealth(t *testing.T, g *Gateway) {
	t.Helper()
	c := login(t, g, "health", "d")
	n := 0
	eventually(t, "presence is healthy", func() bool {
		n++
		c.send(`{"type":"52","action":"replace","users":["nobody %d"]}`, n)
		return c.expect(frame{"type": "53", "code": 200})["degraded"] == nil
	})
	c.send(`{"type":"12"}`)
	c.expectClose(1000)
}

// example is one that is being executed.
type example struct {
	testing.TB
	g       *Gateway
	clients map[string]*client // by name
	schemas map[string]*jsonschema.Resolved
}

// do executes a line.
func (e *example) do(line string) {
	e.Helper()
	name, rest, _ := strings.Cut(line, " ")
	arrow, text, _ := strings.Cut(rest, " ")
	c := e.clients[name]
	if c == nil {
		c = dial(e, e.g, "", nil)
		e.clients[name] = c
	}
	code, isClose := strings.CutPrefix(text, "close ")
	switch {
	case text == "disconnect":
		c.ws.NetConn().Close()
		delete(e.clients, name)
	case isClose:
		n, err := strconv.Atoi(code)
		if err != nil {
			e.Fatalf("%q: %v", line, err)
		}
		c.expectClose(n)
		delete(e.clients, name)
	case arrow == "→":
		c.send("%s", text)
		if fr, err := wire.DecodeJSON([]byte(text)); err == nil {
			e.validate(arrow, text)
			e.validate("→", string(wire.AppendJSON(nil, &fr)))
		}
	case arrow == "←":
		e.validate(arrow, c.expectText(line, text))
	default:
		e.Fatalf("what is %q?", line)
	}
}

// validate checks a frame against the schema of who sent it.
func (e *example) validate(arrow, frame string) {
	e.Helper()
	var v any
	mustUnmarshal(e, frame, &v)
	if err := e.schemas[arrow].Validate(v); err != nil {
		e.Errorf("%s is not valid by the schema: %v", frame, err)
	}
}

func readSchema(t *testing.T, name string) *jsonschema.Resolved {
	t.Helper()
	var s jsonschema.Schema
	mustUnmarshal(t, readDoc(t, "../api/wire/v1/"+name+".schema.json"), &s)
	resolved, err := s.Resolve(nil)
	if err != nil {
		t.Fatal(err)
	}
	return resolved
}

// expectText reads a frame that must be the text, in which … stands for anything, and returns it.
func (c *client) expectText(line, text string) string {
	c.Helper()
	got, err := c.raw()
	if err != nil {
		c.Fatalf("%s\nbut: %v", line, err)
	}
	pattern := regexp.QuoteMeta(text)
	pattern = strings.ReplaceAll(pattern, `"…"`, `"(?:[^"\\]|\\.)+"`)
	pattern = strings.ReplaceAll(pattern, "…", `[^",]+`)
	if !regexp.MustCompile("^" + pattern + "$").MatchString(got) {
		c.Fatalf("got  %s\nwant %s", got, text)
	}
	return got
}

// TestProtocolPageIsWhole: every frame type and every code has its row, and there are no others.
func TestProtocolPageIsWhole(t *testing.T) {
	doc := readDoc(t, protocolDoc)
	types := 0
	for n := range 256 {
		if typ := wire.Type(n); typ.Known() {
			types++
		}
	}
	checkFrameRows(t, doc)
	codes := regexp.MustCompile(`Code = (\d+)`).FindAllStringSubmatch(readDoc(t, "../api/wire/codes.go"), -1)
	for _, m := range codes {
		if !strings.Contains(doc, "\n| "+m[1]+" | ") {
			t.Errorf("code %s has no row", m[1])
		}
	}
	rows := regexp.MustCompile(`(?m)^\| \d+ \|`).FindAllString(doc, -1)
	if len(rows) != types+len(codes) {
		t.Errorf("%d rows for %d types and %d codes", len(rows), types, len(codes))
	}
	for _, limit := range []string{
		fmt.Sprintf("| size of a frame | %s bytes |", thousands(defaultMaxFrameBytes)),
		fmt.Sprintf("| frames a second | %d,", defaultFrameRate),
		fmt.Sprintf("| bytes a second | %s,", thousands(defaultByteRate)),
		fmt.Sprintf("| bytes waiting for the client to read | %s |", thousands(defaultMaxQueuedBytes)),
		fmt.Sprintf("| connections of a gateway | %s |", thousands(defaultMaxConnections)),
		fmt.Sprintf("| time to log in | %d s |", int(defaultLoginTimeout.Seconds())),
		fmt.Sprintf("| subscriptions of a connection, and users of a query | %s |", thousands(defaultSubscriptions)),
		fmt.Sprintf("At most %d messages of a connection may be unanswered", maxPending),
		fmt.Sprintf("| messages of a connection without an answer | %d |", maxPending),
		fmt.Sprintf("**received nothing** for %d s", int(defaultIdleTimeout.Seconds())),
	} {
		if !strings.Contains(doc, limit) {
			t.Errorf("the page does not say %q", limit)
		}
	}
}

// checkFrameRows checks that each type has its row, which names its fields, and those that are required in bold type.
func checkFrameRows(t *testing.T, doc string) {
	t.Helper()
	for _, l := range wire.Layouts() {
		_, row, ok := strings.Cut(doc, fmt.Sprintf("\n| %d | %s |", l.Type, l.Type))
		if !ok {
			t.Errorf("type %d (%s) has no row", l.Type, l.Type)
			continue
		}
		row, _, _ = strings.Cut(row, "\n")
		named := map[string]bool{}
		for _, m := range regexp.MustCompile("`(\\w+)`").FindAllStringSubmatch(row, -1) {
			named[m[1]] = true
		}
		for _, f := range l.Fields {
			if !named[f.Name] {
				t.Errorf("the row of %s does not name %s", l.Type, f.Name)
			}
			delete(named, f.Name)
			if bold := strings.Contains(row, "**`"+f.Name+"`**"); bold != f.Required {
				t.Errorf("%s of %s: required is %t, bold is %t", f.Name, l.Type, f.Required, bold)
			}
		}
		for name := range named {
			t.Errorf("the row of %s names %s, which it does not have", l.Type, name)
		}
	}
}

func thousands(n int) string {
	s := strconv.Itoa(n)
	return s[:len(s)-3] + "," + s[len(s)-3:]
}
