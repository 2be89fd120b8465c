package main

import (
	"net"
	"net/netip"
	"os"

	"github.com/imcluster/imcluster/gateway"
	"github.com/imcluster/imcluster/internal/cli"
	"github.com/imcluster/imcluster/internal/secretdir"
	"github.com/imcluster/imcluster/internal/version"
)

// limitFlags are the limits of what clients may do.
type limitFlags struct {
	MaxConnections int `default:"20000" help:"Connections held at most."`
	MaxHandshakes  int `default:"1024" help:"Connections that may be on the way from TCP to WebSocket at once."`
	MaxFrameBytes  int `default:"65536" help:"Size of the largest frame that a client may send, at most 1048576."`
	MaxQueuedBytes int `default:"524288" help:"Bytes that may wait for a client that reads too slowly before it is disconnected."`

	MaxFramesPerSecond int `default:"100" help:"Frames a second that a connection may send; twice that at once. Negative: no limit."`
	MaxBytesPerSecond  int `default:"262144" help:"Bytes a second that a connection may send; twice that at once. Negative: no limit."`

	MaxConnectionsPerUser     int `default:"16" help:"Devices of a user that may be connected at once, to all gateways together."`
	MaxFramesPerSecondPerUser int `default:"0" help:"Frames a second that all connections of a user to this gateway may send together. 0: no limit."`
	MaxBytesPerSecondPerUser  int `default:"0" help:"Bytes a second that all connections of a user to this gateway may send together. 0: no limit."`

	MaxGroupsPerUser int `default:"1000" help:"Groups that a user may make and own; back ends may give a user more."`
	MaxSubscriptions int `default:"1000" help:"Users that one connection may subscribe to, and ask for at once, at most 10000."`

	MaxGroupRecipientsPerSecond int `default:"20000" help:"Recipients a second that a user's messages to groups may have, over all connections to this gateway; a message counts once for each recipient and begun KiB. Negative: no limit."`

	MaxConnectionsPerAddress     int `default:"0" help:"Connections that one client address may have to this gateway; of IPv6 the first 64 bits count. 0: no limit."`
	MaxFramesPerSecondPerAddress int `default:"0" help:"Frames a second that all connections of a client address may send together. 0: no limit."`
	MaxBytesPerSecondPerAddress  int `default:"0" help:"Bytes a second that all connections of a client address may send together. 0: no limit."`

	MaxLoginsPerSecondPerAddress int `default:"0" help:"Logins a second that a client address may try, good or not; twice that at once. 0: no limit."`

	TrustedProxies []netip.Prefix `placeholder:"CIDR" help:"Networks of proxies whose X-Forwarded-For header is believed. Unset: the address of a client is that of its TCP connection."`
}

// apply puts the limits into the gateway's configuration.
func (f *limitFlags) apply(cfg *gateway.Config) {
	cfg.MaxConnections, cfg.MaxHandshakes = f.MaxConnections, f.MaxHandshakes
	cfg.MaxFrameBytes, cfg.MaxQueuedBytes = f.MaxFrameBytes, f.MaxQueuedBytes
	cfg.MaxFramesPerSecond, cfg.MaxBytesPerSecond = f.MaxFramesPerSecond, f.MaxBytesPerSecond
	cfg.MaxFramesPerSecondPerUser, cfg.MaxBytesPerSecondPerUser = f.MaxFramesPerSecondPerUser, f.MaxBytesPerSecondPerUser
	cfg.MaxGroupRecipientsPerSecond = f.MaxGroupRecipientsPerSecond
	cfg.MaxSubscriptions = f.MaxSubscriptions
	cfg.MaxConnectionsPerAddress = f.MaxConnectionsPerAddress
	cfg.MaxFramesPerSecondPerAddress, cfg.MaxBytesPerSecondPerAddress = f.MaxFramesPerSecondPerAddress, f.MaxBytesPerSecondPerAddress
	cfg.MaxLoginsPerSecondPerAddress = f.MaxLoginsPerSecondPerAddress
	cfg.TrustedProxies = f.TrustedProxies
}

// config is the gateway's configuration by the flags, but for who judges tokens.
func (c *command) config() (gateway.Config, error) {
	storeConfig, err := c.Redis.Config()
	if err != nil {
		return gateway.Config{}, err
	}
	if err := c.Messages.Apply(&storeConfig); err != nil {
		return gateway.Config{}, err
	}
	storeConfig.LeaseTTL, storeConfig.Grace, storeConfig.OpTimeout = c.LeaseTTL, c.Grace, c.StoreTimeout
	storeConfig.MaxDevices, storeConfig.MaxOwnedGroups = c.Limits.MaxConnectionsPerUser, c.Limits.MaxGroupsPerUser
	cfg := gateway.Config{
		PodName: c.PodName, PodUID: c.PodUID, Version: version.Version(), Cluster: c.ClusterUID, Store: storeConfig,
		Listen: c.Listen, PeerListen: c.PeerListen, OpsListen: c.OpsListen, AdvertiseAddress: c.AdvertiseAddress,
		AllowedOrigins: c.AllowedOrigins,
		AllowBroadcast: c.AllowBroadcast, AllowOnlineList: c.AllowOnlineList, DenyClientGroups: !c.AllowClientGroups,
		PresenceAddress: c.PresenceAddress, DenyPresence: !c.AllowPresence,
		RedeliveryDelay: c.RedeliveryDelay, IdleTimeout: c.IdleTimeout, LoginTimeout: c.LoginTimeout,
		ShutdownDelay: c.ShutdownDelay, DrainWindow: c.DrainWindow, DrainMaxReconnectsPerSecond: c.DrainMaxReconnectsPerSecond,
	}
	c.Limits.apply(&cfg)
	if cfg.PodName == "" {
		if cfg.PodName, err = os.Hostname(); err != nil {
			return gateway.Config{}, cli.Configf("--pod-name is not set, and the host has no name: %w", err)
		}
	}
	if cfg.AdvertiseAddress == "" && c.PodIP != "" {
		_, port, err := net.SplitHostPort(c.PeerListen)
		if err != nil {
			return gateway.Config{}, cli.Configf("--peer-listen: %q is not host:port", c.PeerListen)
		}
		cfg.AdvertiseAddress = net.JoinHostPort(c.PodIP, port)
	}
	peerKey, err := secretdir.Open(c.PeerKeyDir)
	if err != nil {
		return gateway.Config{}, cli.Configf("--peer-key-dir: %w", err)
	}
	cfg.PeerKeys = peerKey
	return cfg, nil
}
