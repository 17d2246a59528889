package ingress

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"

	admissionv1 "k8s.io/api/admission/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// maxReview is the size of the largest review that is read, in bytes; the API server's objects are smaller.
const maxReview = 4 << 20

// Webhook refuses Ingresses that this controller couldn't serve as they are meant.
type Webhook struct {
	Options *Options
	// State is the cluster as it is now.
	State func() (State, error)
	Log   *slog.Logger
}

// ServeHTTP answers an AdmissionReview.
func (h *Webhook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var review admissionv1.AdmissionReview
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxReview))
	if err == nil {
		err = json.Unmarshal(body, &review)
	}
	if err != nil || review.Request == nil {
		http.Error(w, "not an AdmissionReview", http.StatusBadRequest)
		return
	}
	review.Response = h.answer(review.Request)
	review.Request = nil
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(review); err != nil {
		h.Log.Error("answer an AdmissionReview", "error", err)
	}
}

func (h *Webhook) answer(r *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
	err := h.review(r)
	h.Log.Info("admission", "operation", r.Operation, "ingress", key(r.Namespace, r.Name), "refused", err)
	if err == nil {
		return &admissionv1.AdmissionResponse{UID: r.UID, Allowed: true}
	}
	return &admissionv1.AdmissionResponse{UID: r.UID, Result: &metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusBadRequest, Reason: metav1.StatusReasonBadRequest, Message: err.Error(),
	}}
}

func (h *Webhook) review(r *admissionv1.AdmissionRequest) error {
	if r.Kind.Kind != "Ingress" || r.Operation != admissionv1.Create && r.Operation != admissionv1.Update {
		return nil
	}
	var i networkingv1.Ingress
	if err := json.Unmarshal(r.Object.Raw, &i); err != nil {
		return fmt.Errorf("read the ingress: %w", err)
	}
	i.Namespace = r.Namespace
	s, err := h.State()
	if err != nil {
		return err
	}
	if !h.Options.ours(&i, s.Classes) {
		return nil
	}
	if found := snippets(i.Annotations); len(found) > 0 {
		return fmt.Errorf("%s%s annotation cannot be used. Snippet directives are disabled by the Ingress administrator", annotationPrefix, found[0])
	}
	if _, err := readSettings(i.Annotations); err != nil {
		return err
	}
	return taken(&i, h.Options.own(s))
}

// taken says which host and path of an Ingress another one has.
func taken(i *networkingv1.Ingress, others []*networkingv1.Ingress) error {
	type place struct{ host, path string }
	wanted := map[place]bool{}
	paths := func(i *networkingv1.Ingress, do func(place) error) error {
		for _, rule := range i.Spec.Rules {
			if rule.HTTP == nil {
				continue
			}
			for _, p := range rule.HTTP.Paths {
				path := p.Path
				if path == "" {
					path = "/"
				}
				if err := do(place{rule.Host, path}); err != nil {
					return err
				}
			}
		}
		return nil
	}
	if err := paths(i, func(p place) error { wanted[p] = true; return nil }); err != nil {
		return err
	}
	for _, other := range others {
		if other.Namespace == i.Namespace && other.Name == i.Name {
			continue
		}
		if err := paths(other, func(p place) error {
			if wanted[p] {
				return fmt.Errorf("host %q and path %q is already defined in ingress %s/%s", p.host, p.path, other.Namespace, other.Name)
			}
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}
