package stack

import (
	"errors"
	"fmt"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
)

// A namespace stays where nobody can say what it holds. What may pass makes down fail, to be run again.
func TestUnreadable(t *testing.T) {
	secrets := schema.GroupResource{Resource: "secrets"}
	for want, errs := range map[bool][]error{
		true:  {apierrors.NewForbidden(secrets, "", nil), apierrors.NewServiceUnavailable("metrics"), &discovery.ErrGroupDiscoveryFailed{}},
		false: {errors.New("serializer for text/html doesn't exist"), apierrors.NewConflict(secrets, "", nil), apierrors.NewInternalError(errors.New("etcd"))},
	} {
		for _, err := range errs {
			if got := unreadable(fmt.Errorf("namespace a: %w", err)); got != want {
				t.Errorf("%v: got %v", err, got)
			}
		}
	}
}
