package feed

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// How a user may want to be shown. Empty means ShowOnline.
const (
	ShowOnline = "online"
	ShowAway   = "away"
	ShowBusy   = "busy"
	// ShowInvisible: as if the user were offline, since the moment when this was set.
	ShowInvisible = "invisible"
)

// Status is what a user wants others to see. It persists until it is set again, or the user is forgotten.
type Status struct {
	// Show is one of the constants.
	Show string
	// Text is at most MaxTextBytes of UTF-8 without control characters.
	Text string
}

// MaxTextBytes bounds Status.Text.
const MaxTextBytes = 128

// ErrInvalidStatus says that a status is none: what is returned wraps it, and says why.
var ErrInvalidStatus = errors.New("invalid status")

// Check returns what is wrong with a status, wrapping [ErrInvalidStatus].
func (s Status) Check() error {
	switch {
	case s.letter() == 0:
		return fmt.Errorf("%w: %q is not online, away, busy or invisible", ErrInvalidStatus, s.Show)
	case len(s.Text) > MaxTextBytes:
		return fmt.Errorf("%w: a text of %d bytes, and %d are allowed", ErrInvalidStatus, len(s.Text), MaxTextBytes)
	case !utf8.ValidString(s.Text) || strings.ContainsFunc(s.Text, unicode.IsControl):
		return fmt.Errorf("%w: the text is not UTF-8 without control characters", ErrInvalidStatus)
	}
	return nil
}

// letter is how Redis keeps the show; 0 if it is none.
func (s Status) letter() byte {
	switch s.Show {
	case ShowOnline, "":
		return 'o'
	case ShowAway:
		return 'a'
	case ShowBusy:
		return 'b'
	case ShowInvisible:
		return 'i'
	}
	return 0
}

// Letter is how Redis keeps the show of a status that [Status.Check] accepts.
func (s Status) Letter() string { return string(rune(s.letter())) }

// Standing is a status as Redis keeps it. Zero is that of who never set one: online, without text.
type Standing struct {
	Status
	// Set is when it was set, unix ms.
	Set int64
	// Hidden is when an invisible user was last seen: the unix second of hiding, or, of who was offline then, the real one;
	// 0 if the user had never been seen.
	Hidden int64
}

// Invisible tells whether nothing may be seen of the user.
func (s *Standing) Invisible() bool { return s.Show == ShowInvisible }

// ParseStanding reads "<o|a|b|i><set at, ms>.<hidden, s>.<text>", numbers in base 36. An empty text is the zero Standing.
func ParseStanding(text string) (Standing, error) {
	if text == "" {
		return Standing{}, nil
	}
	var s Standing
	switch text[0] {
	case 'o':
		s.Show = ShowOnline
	case 'a':
		s.Show = ShowAway
	case 'b':
		s.Show = ShowBusy
	case 'i':
		s.Show = ShowInvisible
	default:
		return Standing{}, fmt.Errorf("status %q: no such kind", text)
	}
	set, rest, _ := strings.Cut(text[1:], ".")
	hidden, rest, _ := strings.Cut(rest, ".")
	s.Text = rest
	var err error
	if s.Set, err = strconv.ParseInt(set, 36, 64); err != nil {
		return Standing{}, fmt.Errorf("status %q: %w", text, err)
	}
	if hidden != "" {
		if s.Hidden, err = strconv.ParseInt(hidden, 36, 64); err != nil {
			return Standing{}, fmt.Errorf("status %q: %w", text, err)
		}
	}
	return s, nil
}

// View is what others may see of a user.
type View struct {
	Online bool
	// Show and Text are those of who is online; empty otherwise.
	Show string
	Text string
	// LastSeen is the unix second since which the user is offline; 0 if never seen, or forgotten, or online.
	LastSeen int64
}

// Visible decides what others may see of a user. It is the only place that knows what invisible means. online says whether
// a session is alive, lastSeen is the unix second of the end of the last one, 0 if there was none; now is Redis' clock.
func Visible(online bool, s *Standing, lastSeen int64, now time.Time, retention time.Duration) View {
	if s.Invisible() {
		online, lastSeen = false, s.Hidden
	}
	switch {
	case online && s.Show == "":
		return View{Online: true, Show: ShowOnline}
	case online:
		return View{Online: true, Show: s.Show, Text: s.Text}
	case lastSeen == 0 || now.Sub(time.Unix(lastSeen, 0)) > retention:
		return View{}
	}
	return View{LastSeen: lastSeen}
}
