package presence_test

import (
	"bufio"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/imcluster/imcluster/client"
	"github.com/imcluster/imcluster/internal/dev"
)

// example is a command of docs/presence-api.md and the answer below it.
type example struct{ command, answer string }

// examples are the fenced commands that a fenced answer follows at once.
func examples(t *testing.T) (list []example) {
	t.Helper()
	page, err := os.ReadFile("../docs/presence-api.md")
	if err != nil {
		t.Fatal(err)
	}
	fenced := regexp.MustCompile("(?s)```sh\n(curl [^`]*?)```\n```(?:json|text)\n(.*?)```")
	for _, m := range fenced.FindAllStringSubmatch(string(page), -1) {
		list = append(list, example{strings.ReplaceAll(m[1], "\\\n", ""), strings.TrimSpace(m[2])})
	}
	return list
}

// The commands of the page do what it says, one after the other, on a platform as `make dev` starts it.
func TestExamplesOfThePage(t *testing.T) {
	for name, embedded := range map[string]bool{"redis-server": false, "embedded Redis": true} {
		t.Run(name, func(t *testing.T) { runExamples(t, embedded) })
	}
}

func runExamples(t *testing.T, embedded bool) {
	platform, err := dev.Start(t.Context(), dev.Config{GatewayListen: []string{"127.0.0.1:0"}, EmbeddedRedis: embedded})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(platform.Close)
	alice, err := client.Dial(t.Context(), client.Config{URLs: platform.GatewayURLs, Token: client.StaticToken("alice"), DeviceID: "phone"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { alice.Close() })
	list := examples(t)
	if len(list) < 14 {
		t.Fatalf("the page has %d examples", len(list))
	}
	// Groups are described after messages, which the examples of messages need.
	presence := client.Presence{URL: platform.PresenceURL, Key: platform.APIKey}
	if _, err := presence.CreateGroup(t.Context(), client.NewGroup{ID: "team", Members: []string{"alice"}}); err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		if strings.Contains(e.command, `/v1/groups --json '{"group":"team"`) {
			if err := presence.DeleteGroup(t.Context(), "team"); err != nil {
				t.Fatal(err)
			}
		}
		got := curl(t, e.command, map[string]string{"URL": platform.PresenceURL, "KEY": platform.APIKey})
		// Three dots stand for anything but a quote, as on the page.
		want := regexp.MustCompile("^" + strings.ReplaceAll(regexp.QuoteMeta(e.answer), "…", `[^"]+`) + "$")
		if !want.MatchString(got) {
			t.Errorf("%s\n  answers %s\n     not %s", e.command, got, e.answer)
		}
	}
}

// curl sends what a command line of curl says and returns the answer.
func curl(t *testing.T, command string, variables map[string]string) string {
	t.Helper()
	words := shellWords(t, command, variables)
	method, target, body, header, stream := "", "", "", http.Header{}, false
	for i := 1; i < len(words); i++ {
		switch words[i] {
		case "-d":
			i++
			body = words[i]
		case "-N":
			stream = true
		case "-X":
			i++
			method = words[i]
		case "--json":
			i++
			method, body = http.MethodPost, words[i]
			header.Set("Content-Type", "application/json")
		case "-H":
			i++
			name, value, _ := strings.Cut(words[i], ": ")
			header.Set(name, value)
		default:
			if strings.HasPrefix(words[i], "-") {
				t.Fatalf("%s of curl is not known here", words[i])
			}
			target = words[i]
		}
	}
	req, err := http.NewRequestWithContext(t.Context(), method, target, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = header
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if stream {
		return firstEvent(t, resp.Body)
	}
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(answer)
}

// firstEvent returns the first event of a stream that does not end.
func firstEvent(t *testing.T, stream io.Reader) string {
	t.Helper()
	var event []string
	for lines := bufio.NewScanner(stream); lines.Scan(); {
		switch line := lines.Text(); {
		case strings.HasPrefix(line, ":"):
		case line != "":
			event = append(event, line)
		case event != nil:
			return strings.Join(event, "\n")
		}
	}
	t.Fatal("the stream ended before its first event")
	return ""
}

// shellWords splits a command as a shell does, as far as the page uses it: quotes and variables.
func shellWords(t *testing.T, command string, variables map[string]string) (words []string) {
	t.Helper()
	expand := func(s string) string {
		return os.Expand(s, func(name string) string {
			v, ok := variables[name]
			if !ok {
				t.Errorf("unknown variable %s", name)
			}
			return v
		})
	}
	var word strings.Builder
	begun := false
	for rest := strings.TrimSpace(command); rest != ""; {
		switch c := rest[0]; c {
		case '\'', '"':
			quoted, after, ok := strings.Cut(rest[1:], string(c))
			if !ok {
				t.Fatalf("unbalanced quotes in %s", command)
			}
			if c == '"' {
				quoted = expand(quoted)
			}
			word.WriteString(quoted)
			begun, rest = true, after
		case ' ', '\n':
			if begun {
				words = append(words, word.String())
				word.Reset()
			}
			begun, rest = false, rest[1:]
		default:
			end := strings.IndexAny(rest, "'\" \n")
			if end < 0 {
				end = len(rest)
			}
			word.WriteString(expand(rest[:end]))
			begun, rest = true, rest[end:]
		}
	}
	if begun {
		words = append(words, word.String())
	}
	return words
}
