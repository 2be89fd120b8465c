package pki

import (
	"crypto/tls"
	"crypto/x509"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
)

func TestCertificatesVerify(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pki")
	node := netip.MustParseAddr("10.230.64.2")
	err := Write(dir, []Identity{
		{File: "admin", User: "someone", Group: "system:masters"},
		{File: "apiserver", User: "kube-apiserver", Hosts: []string{"kubernetes.default.svc"}, Addresses: []netip.Addr{node}},
	})
	if err != nil {
		t.Fatal(err)
	}
	authority, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(authority) {
		t.Fatal("ca.crt holds no certificate")
	}

	for _, tc := range []struct {
		name, file, host string
		use              x509.ExtKeyUsage
		ok               bool
	}{
		{"client", "admin", "", x509.ExtKeyUsageClientAuth, true},
		{"client as a server", "admin", "", x509.ExtKeyUsageServerAuth, false},
		{"server by name", "apiserver", "kubernetes.default.svc", x509.ExtKeyUsageServerAuth, true},
		{"server by address", "apiserver", node.String(), x509.ExtKeyUsageServerAuth, true},
		{"server by another name", "apiserver", "example.org", x509.ExtKeyUsageServerAuth, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cert := load(t, dir, tc.file)
			_, err := cert.Verify(x509.VerifyOptions{Roots: roots, DNSName: tc.host, KeyUsages: []x509.ExtKeyUsage{tc.use}})
			if (err == nil) != tc.ok {
				t.Errorf("Verify: %v, want success: %v", err, tc.ok)
			}
		})
	}
	if subject := load(t, dir, "admin").Subject; subject.CommonName != "someone" || subject.Organization[0] != "system:masters" {
		t.Errorf("subject is %v", subject)
	}
	for _, file := range []string{"sa.key", "sa.pub"} {
		if _, err := os.Stat(filepath.Join(dir, file)); err != nil {
			t.Error(err)
		}
	}
}

func load(t *testing.T, dir, name string) *x509.Certificate {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key"))
	if err != nil {
		t.Fatal(err)
	}
	return pair.Leaf
}
