package local

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
)

// Status writes what runs of the cluster. It fails if the cluster is not whole.
func (c *Cluster) Status(ctx context.Context, out io.Writer) error {
	if err := c.requireUp(); err != nil {
		return err
	}
	if err := c.findPrograms(ctx); err != nil {
		return err
	}
	all, err := processes(c.name)
	if err != nil {
		return err
	}
	pids := map[string]int{}
	for _, p := range all {
		if p.daemon {
			pids[p.name()] = p.pid
		}
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "COMPONENT\tPID\tLOG")
	var missing []string
	for _, name := range append(c.componentNames(), HolderCommand) {
		log := c.logFile(name)
		if name == HolderCommand {
			log = c.logFile("holder")
		}
		if pids[name] == 0 {
			missing = append(missing, name)
			fmt.Fprintf(table, "%s\t-\t%s\n", name, log)
			continue
		}
		fmt.Fprintf(table, "%s\t%d\t%s\n", name, pids[name], log)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if len(missing) > 0 {
		return fmt.Errorf("not running: %q; \"cluster --name %s up\" starts them", missing, c.name)
	}
	nodes, err := c.kubectl(ctx, "get", "nodes", "-o", "wide")
	fmt.Fprintf(out, "\n%s", nodes)
	return err
}

// Environment are the variables that tests and people use the cluster by, beside KUBECONFIG.
func (c *Cluster) Environment(ctx context.Context) (map[string]string, error) {
	redis, err := c.redisImage(ctx)
	if err != nil {
		return nil, err
	}
	return map[string]string{"IMC_LOCAL_REDIS_IMAGE": redis.ref}, nil
}
