package image

import (
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// StandIn is the label that says what an image with somebody else's name really holds.
const StandIn = "io.github.pwdeploy.stand-in"

// The references that the charts and their values ask for, pinned digests included.
const (
	ServiceReference    = "docker.io/pw/crudservice:latest"
	ServiceE2EReference = "docker.io/pw/crudservice:e2e"

	redisRepository = "docker.io/library/redis"
	RedisReference  = redisRepository + ":8.2.8-bookworm"
	redisDigest     = "@sha256:2f7462b9e93e0a7ae2edf3a0a0babc8a4d29f8bfc50849b906b7caaef925edc1"

	controllerRepository = "registry.k8s.io/ingress-nginx/controller"
	ControllerReference  = controllerRepository + ":v1.15.1"
	controllerDigest     = "@sha256:594ceea76b01c592858f803f9ff4d2cb40542cae2060410b2c95f75907d659e1"

	certgenRepository = "registry.k8s.io/ingress-nginx/kube-webhook-certgen"
	CertgenReference  = certgenRepository + ":v1.6.9"
	certgenDigest     = "@sha256:01038e7de14b78d702d2849c3aad72fd25903c4765af63cf16aa3398f5d5f2dd"
)

// Aliases are the further references that an image of the lab answers to: by the upstream digest, with tag and
// without. The content is the lab's own all the same.
func Aliases(reference string) []string {
	switch reference {
	case RedisReference:
		return []string{redisRepository + redisDigest, RedisReference + redisDigest}
	case ControllerReference:
		return []string{controllerRepository + controllerDigest, ControllerReference + controllerDigest}
	case CertgenReference:
		return []string{certgenRepository + certgenDigest, CertgenReference + certgenDigest}
	default:
		return nil
	}
}

// Program is an image that holds one static program and nothing else.
func Program(program, inImage, arch string) Spec {
	return Spec{
		Architecture: arch,
		Files:        []File{{Name: inImage, Source: program}},
		Config:       v1.Config{Entrypoint: []string{inImage}},
	}
}

// Service is the image of the CRUD service. A stamp other than "" makes an image of other content and so another
// digest that behaves the same, for tests of a changed image.
func Service(program, arch, stamp string) Spec {
	s := Program(program, "/crudservice", arch)
	s.Config.User = "65532:65532"
	s.Config.ExposedPorts = map[string]struct{}{"8000/tcp": {}, "9090/tcp": {}}
	s.Config.Labels = map[string]string{"org.opencontainers.image.title": "pw/crudservice", "org.opencontainers.image.source": "https://github.com/pwdeploy/pwdeploy"}
	if stamp != "" {
		s.Files = append(s.Files, File{Name: "/stamp", Content: []byte(stamp + "\n"), Mode: 0o644})
		s.Config.Labels["io.github.pwdeploy.stamp"] = stamp
	}
	return s
}

// Redis is Redis from Debian's packages under the name of the official image.
func Redis(root, arch string) Spec {
	return Spec{
		Root: root, Architecture: arch,
		Files: []File{{Name: "/data/", Mode: 0o1777}},
		Config: v1.Config{
			Cmd: []string{"redis-server"}, WorkingDir: "/data", ExposedPorts: map[string]struct{}{"6379/tcp": {}},
			Labels: map[string]string{StandIn: "redis-server from Debian's packages, not the official Redis image"},
		},
	}
}

// Controller is the lab's ingress controller with NGINX from Debian's package, under the name of ingress-nginx's. Like
// that it has no entry point: the chart names the program.
func Controller(root, program, arch string) Spec {
	return Spec{
		Root: root, Architecture: arch,
		Files: []File{
			{Name: "/nginx-ingress-controller", Source: program},
			{Name: "/wait-shutdown", Link: "nginx-ingress-controller"},
			{Name: "/tmp/", Mode: 0o1777},
		},
		Config: v1.Config{
			User:   "101",
			Labels: map[string]string{StandIn: "NGINX from Debian's package behind a small controller, not ingress-nginx"},
		},
	}
}

// Certgen is the lab's own kube-webhook-certgen.
func Certgen(program, arch string) Spec {
	s := Program(program, "/kube-webhook-certgen", arch)
	s.Config.User = "65532"
	s.Config.Labels = map[string]string{StandIn: "a small program with the same commands, not kube-webhook-certgen"}
	return s
}
