package store

import (
	"context"
	"encoding/json"
	"strconv"
	"strings"
	"time"
)

// hookStatusAge is after how long without a word from a pod its status does not count any more, and is removed.
const hookStatusAge = 20 * time.Second

// ReportHooks keeps the status of a claimant, as JSON, for [Store.HookReports].
func (s *Store) ReportHooks(ctx context.Context, claimant string, status any) error {
	body, err := json.Marshal(status)
	if err != nil {
		return err
	}
	clock := read(gateways, "time")
	if err := s.exchange(ctx, clock); err != nil {
		return err
	}
	return s.exchange(ctx, read(gateways, "hset", s.keys.hookStatus, claimant, strconv.FormatInt(timeOf(clock), 10)+" "+string(body)))
}

// HookReports returns the statuses of all claimants that reported within the last 20 s, and forgets others.
func (s *Store) HookReports(ctx context.Context) ([]json.RawMessage, error) {
	clock, all := read(gateways, "time"), read(gateways, "hgetall", s.keys.hookStatus)
	if err := s.exchange(ctx, clock, all); err != nil {
		return nil, err
	}
	var reports []json.RawMessage
	old := []any{"hdel", s.keys.hookStatus}
	list := all.list()
	for i := 0; i+1 < len(list); i += 2 {
		at, body, _ := strings.Cut(textOf(list[i+1]), " ")
		age := time.Duration(timeOf(clock)-intOf(at)) * time.Millisecond
		if age.Abs() > hookStatusAge {
			old = append(old, list[i])
			continue
		}
		reports = append(reports, json.RawMessage(body))
	}
	if len(old) > 2 {
		return reports, s.exchange(ctx, read(gateways, old...))
	}
	return reports, nil
}
