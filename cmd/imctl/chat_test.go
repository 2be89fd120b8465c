package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestCompletion(t *testing.T) {
	var c completer
	c.know("alice", "alan", "bob", "阿里", "")
	for line, want := range map[string][]string{
		"al":           {"alan;;", "alice;;"},
		"bo":           {"bob;;"},
		"阿":            {"阿里;;"},
		":h":           {":history"},
		":g c":         {":g create "},
		":g":           {":g add ", ":g create ", ":g delete ", ":g leave ", ":g members ", ":g remove ", ":g use "},
		":g add g1 al": {":g add g1 alan ", ":g add g1 alice "},
		":to b":        {":to bob "},
		"nobody":       nil,
	} {
		more, _ := c.Do([]rune(line+"|behind"), len([]rune(line)))
		var got []string
		for _, m := range more {
			got = append(got, line+string(m))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	}
}

func TestScrollbackKeepsTheLast(t *testing.T) {
	var s scrollback
	for i := range 10 * maxScrollback {
		s.add(strings.Repeat("x", i%7))
		if len(s.lines) > 2*maxScrollback {
			t.Fatalf("keeps %d", len(s.lines))
		}
	}
	s.add("last")
	if got := s.last(2); len(got) != 2 || got[1] != "last" {
		t.Errorf("got %q", got)
	}
	if n := len(s.last(1 << 20)); n != maxScrollback {
		t.Errorf("shows %d", n)
	}
}

func TestClockNamesTheDayUnlessItIsToday(t *testing.T) {
	now := time.Date(2026, 3, 5, 12, 0, 0, 0, time.Local)
	if got := clock(now.Add(-time.Hour), now); got != "11:00:00" {
		t.Error(got)
	}
	if got := clock(now.AddDate(0, 0, -1), now); got != "2026-03-04 12:00:00" {
		t.Error(got)
	}
}

func TestColours(t *testing.T) {
	if plain := (&printer{}); plain.user("bob") != "bob" || plain.bad("x") != "x" {
		t.Error("colours where there are none")
	}
	colourful := &printer{colour: true}
	if got := colourful.user("bob\x1b[31m"); !strings.HasPrefix(got, "\x1b[3") || strings.Count(got, "\x1b") != 2 {
		t.Errorf("%q", got)
	}
	file, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if wantsColour(file) || wantsColour(&buffer{}) {
		t.Error("a file gets colours")
	}
}

func TestHistoryFile(t *testing.T) {
	state := t.TempDir()
	t.Setenv("XDG_STATE_HOME", state)
	for flag, want := range map[string]string{"none": "", "/x/y": "/x/y", "": filepath.Join(state, "imctl", "history")} {
		if got, err := historyPath(flag); err != nil || got != want {
			t.Errorf("%q: %q, %v", flag, got, err)
		}
	}
	info, err := os.Stat(filepath.Join(state, "imctl"))
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}
