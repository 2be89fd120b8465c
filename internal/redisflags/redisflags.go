// Package redisflags holds the flags that say where Redis is, shared by the commands that use it.
package redisflags

import (
	"crypto/tls"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/imcluster/imcluster/internal/cli"
	"github.com/imcluster/imcluster/internal/secretdir"
	"github.com/imcluster/imcluster/presence/store"
)

// Flags are embedded in a command with kong's `embed:"" prefix:"redis-"`.
type Flags struct {
	Mode        store.Mode `enum:"standalone,sentinel,cluster" default:"standalone" help:"How Redis is run: ${enum}."`
	Addresses   []string   `required:"" placeholder:"HOST:PORT" help:"The Redis server, the sentinels, or some nodes of the Redis Cluster."`
	MasterName  string     `help:"Name that the sentinels know the server by. Only in sentinel mode."`
	Username    string     `help:"User to log in to Redis as. Unset: the file 'username' in the password directory if there is one, else the default user."`
	PasswordDir string     `placeholder:"DIR" help:"Directory of a mounted Secret whose file 'current' is the Redis password. Read again at every connection."`
	KeyPrefix   string     `help:"Put before every key, so that several applications can share a Redis."`
	TLS         bool       `name:"tls" help:"Speak TLS to Redis."`
	CAFile      string     `name:"ca-file" placeholder:"FILE" help:"PEM file of the certificate authorities to trust for Redis. Unset: those of the system."`
}

// Config returns what the flags say as the configuration of a store; the caller adds what is not about reaching Redis.
// Its errors are of type [cli.ConfigError].
func (f *Flags) Config() (store.Config, error) {
	cfg := store.Config{Mode: f.Mode, Addresses: f.Addresses, MasterName: f.MasterName, Username: f.Username, KeyPrefix: f.KeyPrefix}
	if err := f.check(); err != nil {
		return store.Config{}, err
	}
	if f.PasswordDir != "" {
		secret, err := secretdir.Open(f.PasswordDir)
		if err != nil {
			return store.Config{}, cli.Configf("--redis-password-dir: %w", err)
		}
		cfg.Password = func() (string, error) { return string(secret.Current()), nil }
		if cfg.Username == "" {
			if cfg.Username, err = readUsername(f.PasswordDir); err != nil {
				return store.Config{}, cli.Configf("--redis-password-dir: %w", err)
			}
		}
	}
	if f.TLS {
		cfg.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
		if f.CAFile != "" {
			pool, err := cli.CertPool("--redis-ca-file", f.CAFile)
			if err != nil {
				return store.Config{}, err
			}
			cfg.TLS.RootCAs = pool
		}
	}
	return cfg, nil
}

func (f *Flags) check() error {
	for _, a := range f.Addresses {
		if host, port, err := net.SplitHostPort(a); err != nil || host == "" || port == "" {
			return cli.Configf("--redis-addresses: %q is not host:port", a)
		}
	}
	switch {
	case len(f.Addresses) == 0:
		return cli.Configf("--redis-addresses is not set: name the Redis server as host:port")
	case f.Mode == store.Standalone && len(f.Addresses) > 1:
		return cli.Configf("--redis-addresses: a standalone Redis has one address, not %d; is --redis-mode missing?", len(f.Addresses))
	case f.Mode == store.Sentinel && f.MasterName == "":
		return cli.Configf("--redis-master-name is not set: sentinel mode needs the name that the sentinels know the server by")
	case f.Mode != store.Sentinel && f.MasterName != "":
		return cli.Configf("--redis-master-name is for --redis-mode=sentinel only")
	case f.CAFile != "" && !f.TLS:
		return cli.Configf("--redis-ca-file has no effect without --redis-tls")
	case f.Username != "" && f.PasswordDir == "":
		return cli.Configf("--redis-username needs --redis-password-dir")
	}
	return nil
}

// readUsername returns what the optional file "username" beside a password says.
func readUsername(dir string) (string, error) {
	data, err := os.ReadFile(filepath.Join(dir, "username"))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return strings.TrimSpace(string(data)), err
}
