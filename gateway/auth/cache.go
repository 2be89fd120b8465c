package auth

import (
	"container/list"
	"crypto/sha256"
	"sync"
	"time"
)

// maxCached bounds the answers that are remembered. One takes some 300 bytes.
const maxCached = 20000

// cache remembers identities for a while.
type cache struct {
	keep time.Duration // 0: nothing is remembered

	mu      sync.Mutex
	answers map[[sha256.Size]byte]*list.Element
	byAge   *list.List // of *cached, the oldest first; as all are kept equally long, those that end first are in front
}

type cached struct {
	question [sha256.Size]byte
	identity Identity
	until    time.Time
}

func newCache(keep time.Duration) *cache {
	return &cache{keep: keep, answers: map[[sha256.Size]byte]*list.Element{}, byAge: list.New()}
}

// get returns what is remembered and has not expired.
func (c *cache) get(question [sha256.Size]byte, now time.Time) (Identity, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forgetLocked(now, maxCached)
	element, ok := c.answers[question]
	if !ok {
		return Identity{}, false
	}
	answer := element.Value.(*cached)
	if end := answer.identity.Expires; !end.IsZero() && !now.Before(end) {
		return Identity{}, false
	}
	return answer.identity, true
}

func (c *cache) put(question [sha256.Size]byte, id Identity, now time.Time) {
	if c.keep == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forgetLocked(now, maxCached-1)
	if old, ok := c.answers[question]; ok {
		c.byAge.Remove(old)
	}
	c.answers[question] = c.byAge.PushBack(&cached{question, id, now.Add(c.keep)})
}

// forgetLocked forgets what is too old, and the oldest beyond a number.
func (c *cache) forgetLocked(now time.Time, most int) {
	for e := c.byAge.Front(); e != nil; e = c.byAge.Front() {
		answer := e.Value.(*cached)
		if now.Before(answer.until) && c.byAge.Len() <= most {
			return
		}
		c.byAge.Remove(e)
		delete(c.answers, answer.question)
	}
}
