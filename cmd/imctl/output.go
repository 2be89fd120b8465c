package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/mattn/go-runewidth"
)

// printer writes results, as text or as JSON.
type printer struct {
	std  streams
	json bool
	// colour: the output is a terminal that shows colours.
	colour bool
}

// value prints v as one line of JSON.
func (p *printer) value(v any) error {
	encoder := json.NewEncoder(p.std.out)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(v)
}

func (p *printer) line(format string, args ...any) {
	fmt.Fprintf(p.std.out, format+"\n", args...)
}

// warn is for what people should know and programs find in the JSON.
func (p *printer) warn(format string, args ...any) {
	if !p.json {
		fmt.Fprintf(p.std.err, format+"\n", args...)
	}
}

// table prints aligned columns. A Chinese character takes two cells of the terminal, which text/tabwriter counts as one.
func (p *printer) table(header []string, rows [][]string) {
	const gap = 3
	widths := make([]int, len(header))
	rows = append([][]string{header}, rows...)
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], runewidth.StringWidth(cell))
		}
	}
	for _, row := range rows {
		var line strings.Builder
		for i, cell := range row {
			line.WriteString(runewidth.FillRight(cell, widths[i]+gap))
		}
		p.line("%s", strings.TrimRight(line.String(), " "))
	}
}

// ago says how long before now t was, as people do.
func ago(t, now time.Time) string {
	switch d := now.Sub(t); {
	case t.IsZero():
		return "-"
	case d < 5*time.Second: // clocks differ a little
		return "just now"
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s ago", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min ago", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h ago", int(d.Hours()))
	default:
		return fmt.Sprintf("%d days ago", int(d.Hours()/24))
	}
}

// printable makes text that somebody else wrote safe for the terminal: what controls it is shown, not obeyed.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r):
			return unicode.ReplacementChar
		}
		return r
	}, text)
}
