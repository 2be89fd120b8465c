package main

import (
	"fmt"
	"hash/crc32"
	"io"
	"os"

	"golang.org/x/term"

	"github.com/imcluster/imcluster/client"
)

// Colours, as the terminal's own palette has them.
const (
	reset    = "\x1b[0m"
	styleDim = "\x1b[2m"
	styleBad = "\x1b[31m"
	styleOn  = "\x1b[32m"
)

// userColours are those that can be read on light and dark ground.
var userColours = []string{"\x1b[32m", "\x1b[34m", "\x1b[35m", "\x1b[36m", "\x1b[33m"}

// wantsColour decides whether out gets colours: not when it is not a terminal, and not when the user does not want any
// (https://no-color.org).
func wantsColour(out io.Writer) bool {
	file, ok := out.(*os.File)
	return ok && term.IsTerminal(int(file.Fd())) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

func (p *printer) style(code, text string) string {
	if !p.colour {
		return text
	}
	return code + text + reset
}

func (p *printer) faint(text string) string { return p.style(styleDim, text) }

func (p *printer) bad(text string) string { return p.style(styleBad, text) }

// state returns the state of a user, as wide as the widest.
func (p *printer) state(s client.State) string {
	text := fmt.Sprintf("%-7s", s)
	switch s {
	case client.Online:
		return p.style(styleOn, text)
	case client.Unknown:
		return p.bad(text)
	}
	return p.faint(text)
}

// user returns the name of a user, always in the same colour.
func (p *printer) user(id string) string {
	return p.style(userColours[crc32.ChecksumIEEE([]byte(id))%uint32(len(userColours))], printable(id))
}
