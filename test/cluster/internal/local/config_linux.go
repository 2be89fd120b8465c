package local

import (
	"bytes"
	"embed"
	"encoding/base64"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"text/template"

	"github.com/imcluster/imcluster/test/cluster/internal/pki"
	"github.com/imcluster/imcluster/test/cluster/internal/workspace"
)

//go:embed files
var files embed.FS

var templates = template.Must(template.ParseFS(files, "files/*"))

// The users of the API, by the name of their certificate and kubeconfig.
const (
	userAdmin       = "admin"
	userScheduler   = "scheduler"
	userController  = "controller-manager"
	userProxy       = "proxy"
	userKubelet     = "kubelet"
	userProvisioner = "volume-provisioner"
)

var users = []string{userAdmin, userScheduler, userController, userProxy, userKubelet, userProvisioner}

func (c *Cluster) identities() []pki.Identity {
	return []pki.Identity{
		{File: userAdmin, User: "imcluster-admin", Group: "system:masters"},
		{File: userScheduler, User: "system:kube-scheduler"},
		{File: userController, User: "system:kube-controller-manager"},
		{File: userProxy, User: "system:kube-proxy"},
		{File: userProvisioner, User: "system:volume-provisioner"},
		{
			File: userKubelet, User: "system:node:" + nodeName, Group: "system:nodes",
			Hosts:     []string{nodeName},
			Addresses: []netip.Addr{c.net.Node()},
		},
		{
			File: "apiserver", User: "kube-apiserver",
			Hosts: []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc",
				"kubernetes.default.svc.cluster.local"},
			Addresses: []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), c.net.API(), c.net.Node()},
		},
		{File: "apiserver-kubelet-client", User: "kube-apiserver-kubelet-client", Group: "system:masters"},
	}
}

// writeConfiguration writes keys, kubeconfigs and the components' files. It returns which of the files changed.
func (c *Cluster) writeConfiguration(images infraImages) (changed map[string]bool, err error) {
	keys := filepath.Join(c.state, "pki")
	if _, err := os.Stat(keys); err != nil {
		if err := pki.Write(keys, c.identities()); err != nil {
			return nil, err
		}
	}
	for _, user := range users {
		if err := c.writeKubeconfig(keys, user); err != nil {
			return nil, err
		}
	}
	changed = map[string]bool{}
	for name, path := range map[string]string{
		"containerd.toml": "containerd.toml",
		"kubelet.yaml":    "kubelet.yaml",
		"cni.conflist":    "cni/10-cluster.conflist",
		"addons.yaml":     "addons.yaml",
	} {
		body, err := c.render(name, images)
		if err != nil {
			return nil, err
		}
		if changed[name], err = workspace.WriteFile(filepath.Join(c.state, path), body, 0o644); err != nil {
			return nil, err
		}
	}
	// Pods that use the node's DNS get none: the cluster has no way out.
	_, err = workspace.WriteFile(filepath.Join(c.state, "resolv.conf"), nil, 0o644)
	return changed, err
}

func (c *Cluster) render(name string, images infraImages) ([]byte, error) {
	var out bytes.Buffer
	err := templates.ExecuteTemplate(&out, name, struct {
		Name, State, Run     string
		PauseImage, DNSImage string
		Net                  network
	}{c.name, c.state, c.run, images.pause.ref, images.dns.ref, c.net})
	return out.Bytes(), err
}

func (c *Cluster) writeKubeconfig(keys, user string) error {
	encoded := map[string]string{}
	for _, file := range []string{"ca.crt", user + ".crt", user + ".key"} {
		body, err := os.ReadFile(filepath.Join(keys, file))
		if err != nil {
			return fmt.Errorf("make kubeconfig: %w", err)
		}
		encoded[file] = base64.StdEncoding.EncodeToString(body)
	}
	var out bytes.Buffer
	err := templates.ExecuteTemplate(&out, "kubeconfig", map[string]string{
		"Name":   c.name,
		"User":   user,
		"Server": fmt.Sprintf("https://%s:6443", c.net.Node()),
		"CA":     encoded["ca.crt"],
		"Cert":   encoded[user+".crt"],
		"Key":    encoded[user+".key"],
	})
	if err != nil {
		return err
	}
	_, err = workspace.WriteFile(c.kubeconfigOf(user), out.Bytes(), 0o600)
	return err
}

func (c *Cluster) kubeconfigOf(user string) string {
	return filepath.Join(c.state, "kubeconfig", user)
}
