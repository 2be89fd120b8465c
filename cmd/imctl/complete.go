package main

import (
	"slices"
	"strings"
	"sync"
)

// completer completes commands, and users who were seen.
type completer struct {
	mu    sync.Mutex
	users map[string]struct{}
}

// maxKnown bounds the users that are remembered.
const maxKnown = 10_000

// know remembers users.
func (c *completer) know(users ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.users == nil {
		c.users = map[string]struct{}{}
	}
	for _, u := range users {
		if u != "" && len(c.users) < maxKnown {
			c.users[u] = struct{}{}
		}
	}
}

// Do implements readline.AutoCompleter: it returns what may follow the line up to pos, and how much of the line the
// candidates share.
func (c *completer) Do(line []rune, pos int) (more [][]rune, shared int) {
	typed := string(line[:pos])
	var candidates []string
	word := typed
	switch {
	case !strings.HasPrefix(typed, ":"):
		candidates = c.known(";;")
	case strings.Contains(typed, " ") && !isCommandPrefix(typed):
		word = typed[strings.LastIndexByte(typed, ' ')+1:]
		candidates = c.known(" ")
	default:
		candidates = commandNames
	}
	for _, candidate := range candidates {
		if rest, ok := strings.CutPrefix(candidate, word); ok && rest != "" {
			more = append(more, []rune(rest))
		}
	}
	return more, len([]rune(word))
}

func isCommandPrefix(typed string) bool {
	return slices.ContainsFunc(commandNames, func(name string) bool { return strings.HasPrefix(name, typed) && name != typed })
}

// known returns the users, sorted, each with what follows a user.
func (c *completer) known(suffix string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	users := make([]string, 0, len(c.users))
	for u := range c.users {
		users = append(users, u+suffix)
	}
	slices.Sort(users)
	return users
}
