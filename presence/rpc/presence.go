package rpc

import (
	"context"
	"errors"
	"strconv"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	presencev1 "github.com/imcluster/imcluster/api/presence/v1"
	"github.com/imcluster/imcluster/api/wire"
	"github.com/imcluster/imcluster/presence/feed"
	"github.com/imcluster/imcluster/presence/store"
)

// Sizes of a page of ListOnline.
const (
	defaultPage = 100
	maxPage     = 1000
)

// BatchGet answers about users, in their order.
func (s *Server) BatchGet(ctx context.Context, r *presencev1.BatchGetRequest) (*presencev1.BatchGetResponse, error) {
	if n := len(r.GetUsers()); n > s.cfg.MaxQueryUsers {
		return nil, status.Errorf(codes.ResourceExhausted, "users: %d are too many; ask for at most %d at once", n, s.cfg.MaxQueryUsers)
	}
	if err := checkUsers("users", r.GetUsers()); err != nil {
		return nil, err
	}
	users, asOf, degraded := s.cfg.Model.Users(ctx, r.GetUsers())
	s.cfg.Answered(ctx, users, degraded)
	return &presencev1.BatchGetResponse{Users: outUsers(users), AsOfMs: outTime(asOf), Degraded: degraded}, nil
}

// ListOnline answers with a page of the list.
func (s *Server) ListOnline(ctx context.Context, r *presencev1.ListOnlineRequest) (*presencev1.ListOnlineResponse, error) {
	limit := int(r.GetLimit())
	switch {
	case limit == 0:
		limit = defaultPage
	case limit > maxPage:
		return nil, invalid("limit: must be at most %d", maxPage)
	}
	page, err := s.cfg.Model.Online(ctx, r.GetCursor(), limit)
	if err != nil {
		return nil, err
	}
	return &presencev1.ListOnlineResponse{
		Users: page.Users, NextCursor: page.Next, AsOfMs: outTime(page.AsOf), Degraded: page.Degraded}, nil
}

// CountOnline answers with how many are online.
func (s *Server) CountOnline(ctx context.Context, _ *presencev1.CountOnlineRequest) (*presencev1.CountOnlineResponse, error) {
	c, err := s.cfg.Model.Counts(ctx)
	if err != nil {
		return nil, err
	}
	answer := &presencev1.CountOnlineResponse{
		Users: uint64(c.Users), Sessions: uint64(c.Sessions), AsOfMs: outTime(c.AsOf), Degraded: c.Degraded} //nolint:gosec // counts
	for _, g := range c.Gateways {
		answer.Gateways = append(answer.Gateways, &presencev1.GatewayCount{Gateway: g.Pod, Sessions: uint64(g.Sessions)}) //nolint:gosec // a count
	}
	return answer, nil
}

// shows are the statuses that SetStatus takes.
var shows = map[presencev1.Status]string{
	presencev1.Status_STATUS_ONLINE: feed.ShowOnline, presencev1.Status_STATUS_AWAY: feed.ShowAway,
	presencev1.Status_STATUS_BUSY: feed.ShowBusy, presencev1.Status_STATUS_INVISIBLE: feed.ShowInvisible,
}

// SetStatus sets what a user shows.
func (s *Server) SetStatus(ctx context.Context, r *presencev1.SetStatusRequest) (*presencev1.SetStatusResponse, error) {
	if err := checkUser("user", r.GetUser()); err != nil {
		return nil, err
	}
	show, ok := shows[r.GetStatus()]
	if !ok {
		return nil, invalid("status: must be STATUS_ONLINE, STATUS_AWAY, STATUS_BUSY or STATUS_INVISIBLE")
	}
	to := store.Status{Show: show, Text: r.GetText()}
	if err := to.Check(); err != nil {
		return nil, invalid("%v", err)
	}
	if err := s.cfg.Model.SetStatus(ctx, r.GetUser(), to); err != nil {
		return nil, err
	}
	return &presencev1.SetStatusResponse{}, nil
}

func checkUsers(field string, ids []string) error {
	for i, id := range ids {
		if wire.CheckUserID(id) != nil {
			return checkUser(field+"["+strconv.Itoa(i)+"]", id)
		}
	}
	return nil
}

func checkUser(field, id string) error { return outwardWire(field, wire.CheckUserID(id)) }

// outwardWire says which field an error of package wire is about.
func outwardWire(field string, err error) error {
	if e, ok := errors.AsType[*wire.Error](err); ok {
		return invalid("%s: %s", field, e.Message)
	}
	return err
}

var (
	outStates = map[store.State]presencev1.State{
		store.Online: presencev1.State_STATE_ONLINE, store.Offline: presencev1.State_STATE_OFFLINE, store.Unknown: presencev1.State_STATE_UNKNOWN}
	outReasons = map[store.Reason]presencev1.Reason{
		store.NeverSeen: presencev1.Reason_REASON_NEVER_SEEN, store.Unavailable: presencev1.Reason_REASON_UNAVAILABLE}
	outStatuses = map[string]presencev1.Status{
		feed.ShowOnline: presencev1.Status_STATUS_ONLINE, feed.ShowAway: presencev1.Status_STATUS_AWAY, feed.ShowBusy: presencev1.Status_STATUS_BUSY}
)

func outUsers(users []store.User) []*presencev1.User {
	list := make([]*presencev1.User, len(users))
	all := make([]presencev1.User, len(users))
	for i := range users {
		list[i] = &all[i]
		outUser(list[i], &users[i])
	}
	return list
}

func outUser(to *presencev1.User, u *store.User) {
	to.User, to.State, to.Reason = u.ID, outStates[u.State], outReasons[u.Reason]
	to.Status, to.Text, to.LastSeenMs = outStatuses[u.Status], u.Text, outTime(u.LastSeen)
	for _, d := range u.Devices {
		to.Devices = append(to.Devices, &presencev1.Device{
			Id: d.ID, Platform: d.Platform, Gateway: d.Gateway, LoginTimeMs: outTime(d.LoginTime)})
	}
}

// outTime is a time in Unix milliseconds; 0 if there is none.
func outTime(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}
