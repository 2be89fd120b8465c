package tools

import "time"

// Versions of what is built. Those of Kubernetes and CoreDNS are in the go.mod files of kube/ and coredns/.
const (
	containerdVersion = "v2.4.2"
	helmVersion       = "v4.3.1"
	kindVersion       = "v0.33.0"
)

// Tool names a set of programs that are built together.
type Tool string

// The tools.
const (
	Kube       Tool = "kube"       // kube-apiserver, kubelet, kubectl, …: every Kubernetes program
	Containerd Tool = "containerd" // containerd, its runc shim, ctr
	CoreDNS    Tool = "coredns"    // cluster DNS
	Pause      Tool = "pause"      // the process that holds a pod's namespaces
	Helm       Tool = "helm"
	Kind       Tool = "kind"
)

// recipe says how a tool is made: from packages of a module of this checkout, or from published ones (pkg@version).
type recipe struct {
	module   string   // directory below test/cluster to build in, "" for published packages
	inputs   []string // files and directories below test/cluster that the result depends on
	packages []string
	ldflags  string
	programs map[string]string // name -> what it links to, for programs that are names of another
	cold     time.Duration     // to build with empty Go caches on two cores, measured
}

var recipes = map[Tool]recipe{
	Kube: {
		module:   "kube",
		inputs:   []string{"kube"},
		packages: []string{"./cmd/kube"},
		ldflags:  "-X k8s.io/component-base/version.gitVersion=v1.36.3",
		programs: map[string]string{
			"kube-apiserver":          "kube",
			"kube-controller-manager": "kube",
			"kube-scheduler":          "kube",
			"kube-proxy":              "kube",
			"kubelet":                 "kube",
			"kubectl":                 "kube",
			"volume-provisioner":      "kube",
		},
		cold: 290 * time.Second,
	},
	Containerd: {
		packages: []string{
			"github.com/containerd/containerd/v2/cmd/containerd@" + containerdVersion,
			"github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2@" + containerdVersion,
			"github.com/containerd/containerd/v2/cmd/ctr@" + containerdVersion,
		},
		cold: 45 * time.Second,
	},
	CoreDNS: {
		module:   "coredns",
		inputs:   []string{"coredns"},
		packages: []string{"./cmd/coredns"},
		cold:     50 * time.Second,
	},
	Pause: {
		module:   ".",
		inputs:   []string{"cmd/pause"},
		packages: []string{"./cmd/pause"},
		cold:     5 * time.Second,
	},
	Helm: {
		packages: []string{"helm.sh/helm/v4/cmd/helm@" + helmVersion},
		ldflags:  "-X helm.sh/helm/v4/internal/version.version=" + helmVersion,
		cold:     80 * time.Second,
	},
	Kind: {
		packages: []string{"sigs.k8s.io/kind@" + kindVersion},
		cold:     20 * time.Second,
	},
}

// Of returns the tool that a program belongs to, or that bears its name.
func Of(program string) (Tool, bool) {
	if _, ok := recipes[Tool(program)]; ok {
		return Tool(program), true
	}
	for tool, r := range recipes {
		if _, ok := r.programs[program]; ok {
			return tool, true
		}
	}
	switch program {
	case "ctr", "containerd-shim-runc-v2":
		return Containerd, true
	}
	return "", false
}
