package chaos

import "slices"

// course is what deployments go through, from nothing to nothing.
type course struct {
	name     string
	own      bool // our own ingress controller serves them, and not somebody else's
	before   bool // their namespaces were there before, and stay
	addsData bool // Redis is given a volume after the first stage: it has none of its own
	lives    int  // in a sample, each with a fault in every stage
	stages   []stage
}

// stage is a command in the life of a deployment.
type stage struct {
	name           string
	args           []string
	redis, ingress string // names of the files with the charts' values
}

// The charts' values, by file: at first, and when they are changed. Of the first two for Redis, either has an object that
// the other has not; between the first and the last is an immutable field. CLASS is the volumes' class.
var valuesFiles = map[string]string{
	"redis.yaml":           "master: {pdb: {create: false}}\n",
	"redis-changed.yaml":   "replica: {replicaCount: 2, pdb: {create: false}}\n",
	"redis-volumes.yaml":   "master: {pdb: {create: false}, persistence: {enabled: true, storageClass: CLASS}}\n",
	"ingress.yaml":         "{}\n",
	"ingress-changed.yaml": "controller: {config: {keep-alive: \"60\"}}\n",
}

func at(name string, args ...string) stage {
	return stage{name, args, "redis.yaml", "ingress.yaml"}
}

func changed(name string, args ...string) stage {
	return stage{name, args, "redis-changed.yaml", "ingress-changed.yaml"}
}

func (s stage) deletesData() bool { return slices.Contains(s.args, "--delete-data") }

// courses are all of them.
func courses() []course {
	up := at("up", "up")
	life := []stage{
		up,
		changed("upgrade", "up", "--image", otherImage),
		at("rollback", "rollback", "--yes", "1"),
		changed("down", "down", "--yes"),
		changed("up again", "up", "--image", otherImage),
		changed("down with data", "down", "--yes", "--delete-data"),
	}
	volumes := func(name string, args ...string) stage {
		return stage{name, args, "redis-volumes.yaml", "ingress.yaml"}
	}
	return []course{
		{name: "foreign", addsData: true, lives: 7, stages: life},
		{name: "own", own: true, addsData: true, lives: 2, stages: life},
		{name: "recreate", before: true, lives: 2, stages: []stage{
			up,
			volumes("volumes on", "up", "--recreate"),
			at("volumes off", "up", "--recreate"),
			at("down with data", "down", "--yes", "--delete-data"),
		}},
	}
}

const otherImage = "pw/crudservice:other"

// quickCourse has fewer stages: every stage in which a run is killed takes as long as its lock lasts.
func quickCourse() course {
	c := courses()[0]
	c.lives = quickLives
	c.stages = slices.Delete(c.stages, 3, 5) // down, and up again
	return c
}
