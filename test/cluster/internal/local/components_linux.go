package local

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"time"
)

// component is a program of the cluster that runs as long as the cluster does.
type component struct {
	name string
	args []string // of which the first is the program's path, whose last element is name
	// config is the file of files/ that the component reads once, when it starts.
	config string
}

// components are all programs of the cluster, in the order in which they are started.
func (c *Cluster) components() []component {
	return []component{
		c.etcd(),
		c.containerd(),
		c.apiserver(),
		c.kube("kube-controller-manager", "",
			"--kubeconfig="+c.kubeconfigOf(userController),
			"--service-account-private-key-file="+c.key("sa.key"),
			"--root-ca-file="+c.key("ca.crt"),
			"--use-service-account-credentials",
			"--leader-elect=false",
			// With the default limits 1,000 pods take minutes, with these 18 s.
			"--kube-api-qps=200", "--kube-api-burst=400"),
		c.kube("kube-scheduler", "",
			"--kubeconfig="+c.kubeconfigOf(userScheduler),
			"--leader-elect=false",
			"--kube-api-qps=200", "--kube-api-burst=400"),
		c.kube("kubelet", "kubelet.yaml",
			"--config="+filepath.Join(c.state, "kubelet.yaml"),
			"--kubeconfig="+c.kubeconfigOf(userKubelet),
			"--hostname-override="+nodeName,
			"--node-ip="+c.net.Node().String(),
			"--root-dir="+filepath.Join(c.state, "kubelet")),
		c.kube("kube-proxy", "",
			"--kubeconfig="+c.kubeconfigOf(userProxy),
			"--proxy-mode=nftables",
			"--conntrack-max-per-core=0", // which is the whole machine's
			"--hostname-override="+nodeName,
			"--cluster-cidr="+c.net.Pods().String()),
		c.kube("volume-provisioner", "",
			"--kubeconfig="+c.kubeconfigOf(userProvisioner),
			"--directory="+filepath.Join(c.state, "volumes"),
			"--node="+nodeName),
	}
}

func (c *Cluster) key(file string) string { return filepath.Join(c.state, "pki", file) }

func (c *Cluster) kube(name, config string, flags ...string) component {
	return component{name: name, config: config, args: append([]string{filepath.Join(c.programs.kube, name)}, flags...)}
}

func (c *Cluster) etcd() component {
	return component{name: filepath.Base(c.programs.etcd), args: []string{
		c.programs.etcd,
		"--data-dir=" + filepath.Join(c.state, "etcd"),
		"--unsafe-no-fsync", // a cluster to throw away
	}}
}

func (c *Cluster) containerd() component {
	return component{
		name:   "containerd",
		config: "containerd.toml",
		args: []string{
			filepath.Join(c.programs.containerd, "containerd"),
			"--config=" + filepath.Join(c.state, "containerd.toml"),
		},
	}
}

func (c *Cluster) apiserver() component {
	return c.kube("kube-apiserver", "",
		"--etcd-servers=http://127.0.0.1:2379",
		"--secure-port=6443",
		"--advertise-address="+c.net.Node().String(),
		"--service-cluster-ip-range="+c.net.Services().String(),
		"--tls-cert-file="+c.key("apiserver.crt"),
		"--tls-private-key-file="+c.key("apiserver.key"),
		"--client-ca-file="+c.key("ca.crt"),
		"--service-account-key-file="+c.key("sa.pub"),
		"--service-account-signing-key-file="+c.key("sa.key"),
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--kubelet-client-certificate="+c.key("apiserver-kubelet-client.crt"),
		"--kubelet-client-key="+c.key("apiserver-kubelet-client.key"),
		"--kubelet-certificate-authority="+c.key("ca.crt"),
		// Or else logs and exec look the node's name up in DNS.
		"--kubelet-preferred-address-types=InternalIP",
		"--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction")
}

// ensureComponent sees to it that a component runs with the arguments it should have. If reread is set, one that runs
// is started anew, for its configuration changed.
func (c *Cluster) ensureComponent(ctx context.Context, comp component, reread bool) (started bool, err error) {
	running, ok, err := daemon(c.name, comp.name)
	if err != nil {
		return false, err
	}
	if ok {
		if !reread && slices.Equal(running.args, comp.args) {
			return false, nil
		}
		if err := stop(ctx, stopGrace, running); err != nil {
			return false, err
		}
	}
	// containerd must find its own shim before Debian's, which is too old for it.
	if err := start(c.name, c.logFile(comp.name), c.programs.containerd, nil, c.inside(comp.args...)...); err != nil {
		return false, err
	}
	return true, poll(ctx, 5*time.Second, 5*time.Millisecond, func() (bool, error) {
		err := c.checkAlive(comp) // it is nsenter first
		return err == nil, err
	})
}

// stopGrace is short because the API server, which has watches open, takes more than 10 s to end by itself.
const stopGrace = 3 * time.Second

// checkAlive fails if a component has ended, with where to read why.
func (c *Cluster) checkAlive(components ...component) error {
	for _, comp := range components {
		if _, ok, err := daemon(c.name, comp.name); err != nil {
			return err
		} else if !ok {
			return fmt.Errorf("%s is not running; its log is %s, and ends\n%s",
				comp.name, c.logFile(comp.name), tail(c.logFile(comp.name)))
		}
	}
	return nil
}
