package helm

// Profile is the kind of cluster that values are made for.
type Profile string

// The profiles.
const (
	ProfileLocal Profile = "local" // kind, minikube, colima, k3d: one machine, no LoadBalancer needed
	ProfileAWS   Profile = "aws"   // EKS: network load balancer, gp3 volumes
)

// RedisParams are the choices that the values of the Redis chart depend on.
type RedisParams struct {
	Profile Profile
	// SecretName and SecretKey name the password. The Secret must be in the release's namespace before
	// the release is installed.
	SecretName, SecretKey string
	// StorageClass of the volumes where the profile has some. Empty means the profile's own: gp3 on AWS,
	// where EKS has had no default class since 1.30.
	StorageClass string
}

// IngressParams are the choices that the values of the ingress-nginx chart depend on.
type IngressParams struct {
	Profile Profile
	// ClassName of the IngressClass. Empty means nginx.
	ClassName string
	// MakeDefault makes the class the cluster's default one.
	MakeDefault bool
	// LoadBalancerClass of the controller's Service on AWS. Empty means service.k8s.aws/nlb, the AWS load
	// balancer controller; EKS Auto Mode wants eks.amazonaws.com/nlb. It can't be changed afterwards.
	LoadBalancerClass string
}

// RedisValues gives the values of the Redis chart.
func RedisValues(_ RedisParams) map[string]any { return nil }

// IngressValues gives the values of the ingress-nginx chart.
func IngressValues(_ IngressParams) map[string]any { return nil }

// MergeValuesFiles lays the values of files over base, each over the one before, as helm -f does: maps
// are merged, everything else is replaced, and null takes a chart's default away. base is not changed.
func MergeValuesFiles(_ map[string]any, _ ...string) (map[string]any, error) { return nil, nil }
