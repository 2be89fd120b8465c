package local

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/imcluster/imcluster/test/cluster/internal/image"
	"github.com/imcluster/imcluster/test/cluster/internal/tools"
	"github.com/imcluster/imcluster/test/cluster/internal/workspace"
)

// infraImage is an image that the cluster itself needs, or that stands in for one of a registry.
type infraImage struct{ ref, archive string }

type infraImages struct{ pause, dns, redis infraImage }

// makeImages makes the cluster's own images, where they are not in the cache yet.
func (c *Cluster) makeImages(ctx context.Context) (infraImages, error) {
	var images infraImages
	var err error
	if images.pause, err = c.toolImage(ctx, tools.Pause); err != nil {
		return images, err
	}
	if images.dns, err = c.toolImage(ctx, tools.CoreDNS); err != nil {
		return images, err
	}
	images.redis, err = c.redisImage(ctx)
	return images, err
}

// toolImage is an image of the one program of a tool, tagged with the key of what it was built from.
func (c *Cluster) toolImage(ctx context.Context, tool tools.Tool) (infraImage, error) {
	dir, err := c.shelf.Dir(ctx, tool)
	if err != nil {
		return infraImage{}, err
	}
	key := filepath.Base(dir)[len(tool)+1:]
	made := infraImage{
		ref:     fmt.Sprintf("docker.io/local/%s:%s", tool, key),
		archive: filepath.Join(c.space.Cache, "images", fmt.Sprintf("%s-%s.tar", tool, key)),
	}
	if image.Exists(made.archive) {
		return made, nil
	}
	spec := image.Programs(made.ref, string(tool), key, filepath.Join(dir, string(tool)))
	spec.Entrypoint = []string{"/usr/local/bin/" + string(tool)}
	return made, image.Write(made.archive, spec)
}

// redisImage is made anew each time, in half a second: the machine's Redis may have been updated.
func (c *Cluster) redisImage(ctx context.Context) (infraImage, error) {
	spec, err := image.Redis(ctx)
	if err != nil {
		return infraImage{}, err
	}
	made := infraImage{ref: spec.Ref, archive: filepath.Join(c.space.Cache, "images", "redis.tar")}
	return made, image.Write(made.archive, spec)
}

// Load loads image archives into the cluster. An archive that has been loaded before is skipped.
func (c *Cluster) Load(ctx context.Context, archives ...string) error {
	unlock, err := c.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if err := c.findPrograms(ctx); err != nil {
		return err
	}
	return c.load(ctx, archives...)
}

func (c *Cluster) load(ctx context.Context, archives ...string) error {
	journal := filepath.Join(c.state, "loaded.json")
	loaded := map[string]string{} // path -> digest
	if body, err := os.ReadFile(journal); err == nil {
		if err := json.Unmarshal(body, &loaded); err != nil {
			return fmt.Errorf("read %s: %w", journal, err)
		}
	} else if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, archive := range archives {
		digest, err := digestOf(archive)
		if err != nil {
			return fmt.Errorf("load image: %w", err)
		}
		if loaded[archive] == digest {
			continue
		}
		c.log.Step("loading image %s", filepath.Base(archive))
		_, err = c.runner().Run(ctx, filepath.Join(c.programs.containerd, "ctr"),
			"--address", filepath.Join(c.run, "containerd.sock"), "--namespace", "k8s.io", "images", "import", archive)
		if err != nil {
			return err
		}
		loaded[archive] = digest
		if err := workspace.WriteJSON(journal, loaded); err != nil {
			return err
		}
	}
	return nil
}

func digestOf(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return "", err
	}
	return fmt.Sprintf("%x", sum.Sum(nil)), nil
}
