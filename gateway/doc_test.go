package gateway

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/imcluster/imcluster/api/wire"
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

// TestExamplesOfTheProtocolPage executes the blocks marked as frames: "name → frame" is sent on the connection of that
// name, "name ← frame" must come next on it, byte for byte except for "…", and "name ← close N" ends it.
func TestExamplesOfTheProtocolPage(t *testing.T) {
	blocks := strings.Split(readDoc(t, protocolDoc), "```frames\n")[1:]
	if len(blocks) < 4 {
		t.Fatalf("only %d examples", len(blocks))
	}
	for i, block := range blocks {
		block, _, _ = strings.Cut(block, "```")
		t.Run(fmt.Sprint(i+1), func(t *testing.T) {
			g := startGateway(t, newWorld())
			clients := map[string]*client{}
			for line := range strings.Lines(block) {
				name, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
				arrow, text, _ := strings.Cut(rest, " ")
				c := clients[name]
				if c == nil {
					c = dial(t, g, "", nil)
					clients[name] = c
				}
				switch code, isClose := strings.CutPrefix(text, "close "); {
				case arrow == "→":
					c.send("%s", text)
				case isClose:
					n, err := strconv.Atoi(code)
					if err != nil {
						t.Fatalf("%q: %v", line, err)
					}
					c.expectClose(n)
				default:
					c.expectText(text)
				}
			}
		})
	}
}

// expectText reads a frame that must be the text, in which "…" stands for anything.
func (c *client) expectText(text string) {
	c.Helper()
	got, err := c.raw()
	if err != nil {
		c.Fatalf("want %s, but: %v", text, err)
	}
	pattern := "^" + strings.ReplaceAll(regexp.QuoteMeta(text), "…", `[^",]+`) + "$"
	if !regexp.MustCompile(pattern).MatchString(got) {
		c.Errorf("got  %s\nwant %s", got, text)
	}
}

// TestProtocolPageIsWhole: every frame type and every code has its row, and there are no others.
func TestProtocolPageIsWhole(t *testing.T) {
	doc := readDoc(t, protocolDoc)
	types := 0
	for n := range 256 {
		if typ := wire.Type(n); typ.Known() {
			types++
			if !strings.Contains(doc, fmt.Sprintf("\n| %d | %s |", n, typ)) {
				t.Errorf("type %d (%s) has no row", n, typ)
			}
		}
	}
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
		fmt.Sprintf("At most %d chats", maxPending),
		fmt.Sprintf("**received nothing** for %d s", int(defaultIdleTimeout.Seconds())),
	} {
		if !strings.Contains(doc, limit) {
			t.Errorf("the page does not say %q", limit)
		}
	}
}

func thousands(n int) string {
	s := strconv.Itoa(n)
	return s[:len(s)-3] + "," + s[len(s)-3:]
}
