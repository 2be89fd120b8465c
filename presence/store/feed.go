package store

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/imcluster/imcluster/presence/feed"
)

// Head is how far the feed of a partition has come.
type Head struct {
	// Generation names the data that revisions count: the generation of the partition, and the run of its server, since one
	// that was restarted, or a replica that took over, may have lost the newest facts. Empty while the partition has none.
	// Opaque, and the same for every reader.
	Generation string
	// Revision is that of the newest fact; 0 if there was none.
	Revision uint64
	Err      error
}

// Heads is what [Store.Poll] reads.
type Heads struct {
	Parts [Partitions]Head
	Table TableView
	// AsOf is Redis' clock; zero if the lease table could not be read.
	AsOf time.Time
}

// TableView is the lease table as a reader of the feed needs it.
type TableView struct {
	// Present says that there is a table and that it could be read, Settled that it knows every epoch that is alive.
	Present, Settled bool
	// Live are the epochs alive, external ones included; Dead those that have ended and are not forgotten.
	Live map[Epoch]Peer
	Dead []Epoch
	Err  error
}

// Complete tells whether a partition holds every session that it should: all gateways alive have registered theirs in its
// generation. done tells of which epochs that is known, from [Loaded] and facts of kind [feed.EpochDone].
func (t *TableView) Complete(done func(Epoch) bool) bool {
	if !t.Present || !t.Settled {
		return false
	}
	for e := range t.Live {
		if !e.External() && !done(e) {
			return false
		}
	}
	return true
}

// Poll reads how far the feed has come, and the lease table, in one pipeline for each node: 0.1 ms of Redis. What could not
// be read has an error of its own; Poll fails if nothing could be read.
func (s *Store) Poll(ctx context.Context) (*Heads, error) {
	s.servers.follow(ctx)
	var heads [Partitions]*request
	reqs := make([]*request, 0, Partitions+4)
	for p := range heads {
		heads[p] = s.headRequest(p)
		reqs = append(reqs, heads[p])
	}
	lease := s.tableRequests(true)
	reqs = append(reqs, lease.requests()...)
	err := s.exchange(ctx, reqs...)
	h := &Heads{}
	failed := 0
	for p, r := range heads {
		h.Parts[p] = s.head(r)
		if r.err != nil {
			failed++
		}
	}
	t := s.table(lease)
	if t == nil {
		if failed == Partitions {
			return nil, fmt.Errorf("poll the feed: %w", err)
		}
		h.Table.Err = err
		return h, nil
	}
	h.AsOf, h.Table = time.UnixMilli(t.wall), t.feedView()
	return h, nil
}

func (t *table) feedView() TableView {
	v := TableView{Present: t.present, Settled: t.settled(), Live: make(map[Epoch]Peer, len(t.deadlines))}
	for e := range t.deadlines {
		if t.live(e) {
			v.Live[e] = t.records[e].peer(e)
		} else {
			v.Dead = append(v.Dead, e)
		}
	}
	return v
}

func (s *Store) headRequest(part int) *request {
	return read(part, "hmget", s.keys.meta[part], generationField, revisionField)
}

// head reads the reply of headRequest.
func (s *Store) head(r *request) Head {
	fields := r.list()
	if len(fields) != 2 {
		return Head{Err: wrap(r.err)}
	}
	h := Head{Generation: textOf(fields[0]), Revision: uint64(max(0, intOf(fields[1])))}
	if h.Generation != "" {
		h.Generation += "." + s.nodeOf(r).served()
	}
	return h
}

// FactsAfter asks for the facts of a partition after a revision of a generation.
type FactsAfter struct {
	Part       int
	Generation string
	Revision   uint64
}

// FactsOf are the facts of a partition that follow what was asked for, without a gap, up to [FactsAtOnce].
type FactsOf struct {
	Part       int
	Generation string
	Facts      []feed.Fact
	// Gap: what follows is not there any more, or the generation is another. Load the partition.
	Gap bool
	Err error
}

// FactsAtOnce is how many facts of a partition one call of [Store.Facts] returns at most. If it returns so many, there may
// be more; a script's facts may be divided then.
const FactsAtOnce = 2000

// Facts reads what follows in the feed of some partitions, in one pipeline for each node. Each answer has its own error; the
// other error is the first of them.
func (s *Store) Facts(ctx context.Context, from []FactsAfter) ([]FactsOf, error) {
	reqs := make([]*request, 0, 2*len(from))
	for _, f := range from {
		reqs = append(reqs, s.headRequest(f.Part),
			read(f.Part, "xrange", s.keys.feed[f.Part], "("+strconv.FormatUint(f.Revision, 10), "+", "count", FactsAtOnce))
	}
	err := s.exchange(ctx, reqs...)
	list := make([]FactsOf, len(from))
	for i, f := range from {
		head := s.head(reqs[2*i])
		of := FactsOf{Part: f.Part, Generation: head.Generation, Err: head.Err}
		if entries := reqs[2*i+1]; entries.err != nil {
			of.Err = wrap(entries.err)
		}
		if of.Err == nil {
			of.Facts, of.Gap = parseFacts(reqs[2*i+1].list(), f.Revision)
			of.Gap = of.Gap || head.Generation != f.Generation || head.Revision < f.Revision ||
				len(of.Facts) == 0 && head.Revision > f.Revision
		}
		if of.Gap {
			of.Facts = nil
		}
		list[i] = of
	}
	if err != nil {
		return list, fmt.Errorf("read the feed: %w", err)
	}
	return list, nil
}

// parseFacts reads entries of a stream, which must follow a revision without a gap.
func parseFacts(entries []any, after uint64) (facts []feed.Fact, gap bool) {
	facts = make([]feed.Fact, 0, len(entries))
	for _, e := range entries {
		revision, text, ok := parseFactEntry(e)
		if !ok || revision != after+1 {
			return nil, true
		}
		f, err := feed.Parse(revision, text)
		if err != nil {
			return nil, true // what it says is in Redis
		}
		facts = append(facts, f)
		after = revision
	}
	return facts, false
}

// parseFactEntry reads "<revision>-0" and the field "e".
func parseFactEntry(entry any) (revision uint64, text string, ok bool) {
	pair, _ := entry.([]any)
	if len(pair) != 2 {
		return 0, "", false
	}
	id, _, _ := strings.Cut(textOf(pair[0]), "-")
	revision, err := strconv.ParseUint(id, 10, 64)
	fields, _ := pair[1].([]any)
	if err != nil || len(fields) != 2 {
		return 0, "", false
	}
	return revision, textOf(fields[1]), true
}
