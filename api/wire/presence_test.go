package wire

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

// TestEventOfElements: an event put together from elements that were encoded before is the event, byte for byte.
func TestEventOfElements(t *testing.T) {
	list := append(somePresence(), Presence{UserID: strings.Repeat("x", 120), State: StateOnline}, Presence{UserID: "y"})
	for codec := range NumCodecs {
		for n := 1; n <= len(list); n++ {
			for _, asOf := range []int64{0, 1700000000000} {
				var elements [][]byte
				for i := range list[:n] {
					elements = append(elements, codec.AppendPresence(nil, &list[i]))
				}
				got := string(codec.AppendEvent([]byte("kept"), asOf, elements...))
				want := string(codec.Append([]byte("kept"), &Frame{Type: TypePresenceEvent, Presence: list[:n], AsOf: asOf}))
				if got != want {
					t.Errorf("%s of %d:\n%q, want\n%q", codec.Subprotocol(), n, got, want)
				}
			}
		}
	}
}

// TestBadPresenceOfServers is refused, never taken for something else.
func TestBadPresenceOfServers(t *testing.T) {
	element := func(fields ...byte) []byte {
		data := protowire.AppendVarint(protowire.AppendTag(nil, numberOfType, protowire.VarintType), uint64(TypePresenceEvent))
		return protowire.AppendBytes(protowire.AppendTag(data, fieldTable[fPresence].number, protowire.BytesType), fields)
	}
	for name, data := range map[string][]byte{
		"text that is not UTF-8": element(1<<3|2, 1, 0xff), "text that is a number": element(1<<3, 1), "a number that is text": element(6<<3|2, 1, 'a'),
		"an element that is cut off": element(1<<3|2, 9), "a group": element(1<<3|3, 1<<3|4), "a list of groups": element(7<<3|3, 7<<3|4),
	} {
		if fr, err := Protobuf.DecodeServer(data); codeOf(err) != CodeBadField {
			t.Errorf("%s: %+v, %v", name, fr, err)
		}
	}
	if fr, err := Protobuf.DecodeServer(element(1<<3|2, 1, 'a', 9<<3, 5)); err != nil || len(fr.Presence) != 1 || fr.Presence[0].UserID != "a" {
		t.Errorf("a field that is not known: %+v, %v", fr, err)
	}
	for _, data := range []string{`5`, `{}`, `"a"`, `[5]`, `[{"userId":5}]`, `[{"lastSeen":"now"}]`, `[{"platforms":"ios"}]`} {
		if fr, err := JSON.DecodeServer([]byte(`{"type":"54","presence":` + data + `}`)); codeOf(err) != CodeBadField {
			t.Errorf("%s: %+v, %v", data, fr, err)
		}
	}
}
