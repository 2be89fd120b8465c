// Command kube runs the Kubernetes component that it is called as. One binary
// for all of them is 139 MB where six are 467 MB, and is linked once.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	kubectl "k8s.io/kubectl/pkg/cmd"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	kcm "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"

	"github.com/imcluster/imcluster/test/cluster/kube/provisioner"
)

func main() {
	var cmd *cobra.Command
	switch name := filepath.Base(os.Args[0]); name {
	case "kube-apiserver":
		cmd = apiserver.NewAPIServerCommand()
	case "kube-controller-manager":
		cmd = kcm.NewControllerManagerCommand()
	case "kube-scheduler":
		cmd = scheduler.NewSchedulerCommand()
	case "kube-proxy":
		cmd = proxy.NewProxyCommand()
	case "kubelet":
		// Not the signal context: the command sets up its own, and a second
		// set-up panics with "close of closed channel".
		cmd = kubelet.NewKubeletCommand(context.Background())
	case "kubectl":
		cmd = kubectl.NewDefaultKubectlCommand()
	case "volume-provisioner":
		cmd = provisioner.NewCommand()
	default:
		fmt.Fprintf(os.Stderr, "%q is no component; call this program as kube-apiserver, kube-controller-manager, "+
			"kube-scheduler, kube-proxy, kubelet, kubectl or volume-provisioner\n", name)
		os.Exit(2)
	}
	os.Exit(cli.Run(cmd))
}
