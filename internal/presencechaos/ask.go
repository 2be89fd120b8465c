package presencechaos

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/imcluster/imcluster/client"
)

// askEvery is the pause between two questions.
const askEvery = 60 * time.Millisecond

// ask asks a pod about users in every way, again and again, until ctx ends.
func (w *World) ask(ctx context.Context, n int, users []string) {
	for ctx.Err() == nil {
		_, _, _ = w.batch(ctx, n, users)
		_, _, _ = w.list(ctx, n, users)
		_, _ = w.briefs(ctx, n, users)
		select {
		case <-ctx.Done():
		case <-time.After(askEvery):
		}
	}
}

func (w *World) told(observer string, n int, user string, s State, from, to time.Time) {
	w.rec.add(Event{Kind: Told, Observer: fmt.Sprintf("%s p%d", observer, n), User: user, State: s, From: from, To: to})
}

// batch asks for all users at once.
func (w *World) batch(ctx context.Context, n int, users []string) (map[string]view, client.Freshness, error) {
	answers, fresh, err := w.presence(n).BatchGet(ctx, users)
	if err != nil {
		return nil, fresh, err
	}
	views := make(map[string]view, len(answers))
	for i := range answers {
		v := viewOf(&answers[i])
		views[answers[i].User] = v
		w.told("batch", n, answers[i].User, v.State, fresh.AsOf, time.Now())
	}
	return views, fresh, nil
}

// list asks who is online, and returns those of users who are.
func (w *World) list(ctx context.Context, n int, users []string) (online []string, degraded bool, err error) {
	begun := time.Now()
	listed := map[string]bool{}
	for cursor := ""; ; {
		page, err := w.presence(n).OnlinePage(ctx, cursor, 1000)
		if err != nil {
			return nil, false, err
		}
		for _, u := range page.Users {
			listed[u] = true
		}
		degraded = degraded || page.Degraded
		if cursor = page.NextCursor; cursor == "" {
			break
		}
	}
	for _, u := range users {
		switch {
		case listed[u]:
			online = append(online, u)
			w.told("list", n, u, Online, begun, time.Now())
		case !degraded:
			w.told("list", n, u, Absent, begun, time.Now())
		}
	}
	slices.Sort(online)
	return online, degraded, nil
}

// briefs asks as clients of LeanCloud do.
func (w *World) briefs(ctx context.Context, n int, users []string) (map[string]State, error) {
	begun := time.Now()
	body, err := json.Marshal(map[string][]string{"peerIds": users})
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+w.pods[n].http+"/1.1/functions/getOnOffStatus", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header = http.Header{"X-Lc-Id": {appID}, "X-Lc-Key": {apiKey}, "Content-Type": {"application/json"}}
	resp, err := asking.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, errors.New(string(data)) // which says that it is not known
	}
	var answer struct{ Result []*string }
	if err := json.Unmarshal(data, &answer); err != nil {
		return nil, err
	}
	states := map[string]State{}
	for i, u := range users {
		s := NeverSeen
		if r := answer.Result[i]; r != nil && *r == "1" {
			s = Online
		} else if r != nil {
			s = Offline
		}
		states[u] = s
		w.told("getOnOffStatus", n, u, s, begun, time.Now())
	}
	return states, nil
}
