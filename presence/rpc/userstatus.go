package rpc

import (
	"cmp"
	"context"
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "github.com/imcluster/imcluster/api/userstatus"
	"github.com/imcluster/imcluster/api/wire"
	"github.com/imcluster/imcluster/presence/store"
)

// maxServerAddr is how long the name of a server may be, in bytes.
const maxServerAddr = 255

// QueryUserStatus tells whether a device is online, and where.
func (s *Server) QueryUserStatus(ctx context.Context, r *pb.QueryUserStatusRequest) (*pb.QueryUserStatusResponse, error) {
	if err := checkUser("UserID", r.GetUserID()); err != nil {
		return nil, err
	}
	if r.GetDeviceID() != "" {
		if err := outwardWire("DeviceID", wire.CheckDeviceID(r.GetDeviceID())); err != nil {
			return nil, err
		}
	}
	users, _, degraded := s.cfg.Model.Users(ctx, []string{r.GetUserID()})
	s.cfg.Answered(ctx, users, degraded)
	if d := deviceOf(&users[0], r.GetDeviceID()); d != nil {
		return &pb.QueryUserStatusResponse{Status: true, ServerAddr: s.address(d.Gateway)}, nil
	}
	// Of a user who is online devices may be missing, too.
	if degraded || users[0].Reason == store.Unavailable {
		return nil, status.Error(codes.Unavailable, "it cannot be known now whether the device is online; try again")
	}
	return &pb.QueryUserStatusResponse{}, nil
}

// deviceOf returns a device of a user who is online, the one that logged in last if id is empty.
func deviceOf(u *store.User, id string) *store.Device {
	if u.State != store.Online || len(u.Devices) == 0 {
		return nil
	}
	if id == "" {
		last := slices.MaxFunc(u.Devices, func(a, b store.Device) int { return a.LoginTime.Compare(b.LoginTime) })
		return &last
	}
	if i := slices.IndexFunc(u.Devices, func(d store.Device) bool { return d.ID == id }); i >= 0 {
		return &u.Devices[i]
	}
	return nil
}

// address returns the address of a gateway, by the name of its pod. Another chat server is named by its address.
func (s *Server) address(name string) string {
	for _, g := range s.cfg.Model.Gateways() {
		if g.PodName == name {
			return cmp.Or(g.Address, name)
		}
	}
	return name
}

// Online registers a device of a user on a server.
func (s *Server) Online(ctx context.Context, r *pb.OnlineRequest) (*pb.OnlineResponse, error) {
	device, err := checkDevice(r.GetUserID(), r.GetDeviceID())
	if err != nil {
		return nil, err
	}
	if err := checkServer(r.GetServerAddr()); err != nil {
		return nil, err
	}
	if err := s.cfg.Model.RegisterExternal(ctx, r.GetServerAddr(), r.GetUserID(), device); err != nil {
		return nil, err
	}
	return &pb.OnlineResponse{}, nil
}

// Offline ends the session of a device on a server.
func (s *Server) Offline(ctx context.Context, r *pb.OfflineRequest) (*pb.OfflineResponse, error) {
	device, err := checkDevice(r.GetUserID(), r.GetDeviceID())
	if err != nil {
		return nil, err
	}
	if r.GetServerAddr() != "" {
		if err := checkServer(r.GetServerAddr()); err != nil {
			return nil, err
		}
	}
	if err := s.cfg.Model.UnregisterExternal(ctx, r.GetServerAddr(), r.GetUserID(), device); err != nil {
		return nil, err
	}
	return &pb.OfflineResponse{}, nil
}

// KeepAlive renews the lease of a server.
func (s *Server) KeepAlive(ctx context.Context, r *pb.KeepAliveRequest) (*pb.KeepAliveResponse, error) {
	if err := checkServer(r.GetServerAddr()); err != nil {
		return nil, err
	}
	kept, err := s.cfg.Model.KeepExternal(ctx, r.GetServerAddr(), r.GetStarted())
	if err != nil {
		return nil, err
	}
	return &pb.KeepAliveResponse{LeaseSeconds: int64(kept.Lease.Seconds()), Registry: kept.Registry}, nil
}

// checkDevice checks ids, and returns which device is meant.
func checkDevice(user, device string) (string, error) {
	if err := checkUser("UserID", user); err != nil {
		return "", err
	}
	device = cmp.Or(device, wire.DefaultDevice)
	return device, outwardWire("DeviceID", wire.CheckDeviceID(device))
}

func checkServer(address string) error {
	if address == "" || len(address) > maxServerAddr {
		return invalid("ServerAddr: must be 1 to %d bytes that name the server", maxServerAddr)
	}
	return nil
}
