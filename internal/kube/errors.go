package kube

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/rest"
)

// Hinted is an error that knows what a person can do about it.
type Hinted interface {
	error
	Hint() string
}

// ConnectError says that no cluster could be used: there is no kubeconfig, nothing answers at its
// address, or the cluster refuses the credentials. Nothing was changed.
type ConnectError struct {
	Context string // of the kubeconfig; may be empty
	Host    string // the API server's URL; may be empty
	Problem string // what is wrong, in a few words
	Advice  string // what to do about it
	Err     error
}

func (e *ConnectError) Error() string {
	var b strings.Builder
	b.WriteString(e.Problem)
	if e.Host != "" {
		fmt.Fprintf(&b, " at %s", e.Host)
	}
	if e.Context != "" {
		fmt.Fprintf(&b, " (context %q)", e.Context)
	}
	if e.Err != nil {
		fmt.Fprintf(&b, ": %v", e.Err)
	}
	return b.String()
}

// Unwrap gives the cause.
func (e *ConnectError) Unwrap() error { return e.Err }

// Hint says what to do.
func (e *ConnectError) Hint() string { return e.Advice }

// unreachable is the problem where nothing better is known.
const unreachable = "the cluster can't be reached"

// classify turns what the first request met into a ConnectError.
func classify(err error, contextName, host string) *ConnectError {
	e := &ConnectError{Context: contextName, Host: host, Err: withoutURL(err)}
	var (
		unknownCA  x509.UnknownAuthorityError
		badCert    x509.CertificateInvalidError
		wrongName  x509.HostnameError
		noSuchHost *net.DNSError
		netErr     net.Error
	)
	switch {
	case apierrors.IsUnauthorized(err):
		e.Problem, e.Err = "the cluster refuses the credentials", nil
		e.Advice = "they are wrong or expired: log in again (for EKS: aws sso login, then aws eks update-kubeconfig), then try kubectl auth whoami"
	case apierrors.IsForbidden(err):
		e.Problem, e.Advice = "the cluster does not let this user read its version", "ask for a role on it, or choose another context with --context"
	case errors.Is(err, syscall.ECONNREFUSED):
		e.Problem, e.Err = "nothing listens", nil
		e.Advice = "start the cluster (minikube start, kind create cluster, colima start --kubernetes) or choose another one with --context"
	case errors.As(err, &unknownCA):
		e.Problem, e.Err = "the API server's certificate is signed by an authority that the kubeconfig does not name", nil
		e.Advice = "the kubeconfig may belong to an older cluster of the same address: fetch it again"
	case errors.As(err, &badCert):
		e.Problem, e.Advice = badCertificate(badCert, time.Now())
		e.Err = nil
	case errors.As(err, &wrongName):
		e.Problem, e.Advice = "the API server's certificate is for another name", "use the address that the certificate names, or set tls-server-name for the cluster in the kubeconfig"
	case errors.As(err, &noSuchHost):
		e.Problem, e.Advice = "the API server's name is not known", "check the network or VPN, or choose another cluster with --context"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &netErr) && netErr.Timeout():
		e.Problem, e.Err = "the API server does not answer", nil
		e.Advice = "check the network or VPN, and that the cluster is running"
	default:
		e.Problem, e.Advice = unreachable, "try kubectl get --raw /version with the same context"
	}
	return e
}

// badCertificate words what is wrong with the API server's certificate. A wrong clock looks like a wrong certificate.
func badCertificate(err x509.CertificateInvalidError, now time.Time) (problem, advice string) {
	const day = "2006-01-02 15:04 MST"
	clock := fmt.Sprintf("check this machine's clock, which shows %s; if it is right, ", now.UTC().Format(day))
	switch cert := err.Cert; {
	case err.Reason != x509.Expired || cert == nil:
		return "the API server's certificate is not valid: " + err.Error(), "the kubeconfig may belong to an older cluster of the same address: fetch it again"
	case now.Before(cert.NotBefore):
		return "the API server's certificate is not valid before " + cert.NotBefore.UTC().Format(day), clock + "that of the machine that made the certificate was wrong"
	default:
		return "the API server's certificate expired on " + cert.NotAfter.UTC().Format(day), clock + "renew the cluster's certificates (kubeadm certs renew all, minikube delete and start)"
	}
}

// clientCertificate says what is wrong with the dates of the certificate by which the user logs in, or nothing.
func clientCertificate(config *rest.Config, now time.Time) string {
	tlsConfig, err := rest.TLSConfigFor(config)
	if err != nil || tlsConfig == nil || tlsConfig.GetClientCertificate == nil {
		return ""
	}
	pair, err := tlsConfig.GetClientCertificate(&tls.CertificateRequestInfo{})
	if err != nil || pair == nil || len(pair.Certificate) == 0 {
		return ""
	}
	cert, err := x509.ParseCertificate(pair.Certificate[0])
	switch {
	case err != nil:
		return ""
	case now.After(cert.NotAfter):
		return "the user's certificate in the kubeconfig expired on " + cert.NotAfter.UTC().Format("2006-01-02 15:04 MST")
	case now.Before(cert.NotBefore):
		return "the user's certificate in the kubeconfig is not valid before " + cert.NotBefore.UTC().Format("2006-01-02 15:04 MST")
	}
	return ""
}

// ForeignError says that an object which pwdeploy wants to make is there already and was made by
// somebody else, so that it is neither changed nor deleted.
type ForeignError struct {
	Ref       Ref
	ManagedBy string // its app.kubernetes.io/managed-by label; may be empty
}

func (e *ForeignError) Error() string {
	if e.ManagedBy != "" {
		return fmt.Sprintf("%s exists and is managed by %s", e.Ref, e.ManagedBy)
	}
	return fmt.Sprintf("%s exists and was not made by pwdeploy", e.Ref)
}

// Hint says what to do.
func (e *ForeignError) Hint() string {
	return "delete it if it is no longer needed, or deploy to another namespace with --namespace"
}

// DeniedError says what the user may not do. Nothing was changed.
type DeniedError struct{ Denied []Access }

func (e *DeniedError) Error() string {
	parts := make([]string, 0, len(e.Denied))
	for _, a := range e.Denied {
		parts = append(parts, a.String())
	}
	return "not permitted: " + strings.Join(parts, ", ")
}

// Hint says what to do.
func (e *DeniedError) Hint() string {
	return "ask the cluster's administrator for these permissions, or use another user with --context"
}

// RequestError is a request that the API server did not carry out.
type RequestError struct {
	What string // the object, or what was to be done
	Err  error
}

func (e *RequestError) Error() string { return fmt.Sprintf("%s: %v", e.What, withoutURL(e.Err)) }

// Unwrap gives the cause.
func (e *RequestError) Unwrap() error { return e.Err }

// Hint says what to do, where the cause or its kind tells.
func (e *RequestError) Hint() string {
	var cause Hinted
	switch {
	case errors.As(e.Err, &cause):
		return cause.Hint()
	case byWebhook(e.Err):
		return "an admission webhook of this cluster refuses it: do what it asks for, or talk to who runs it (kubectl get validatingwebhookconfigurations,mutatingwebhookconfigurations)"
	case apierrors.IsForbidden(e.Err):
		return "ask the cluster's administrator for this permission, or use another user with --context"
	case apierrors.IsUnauthorized(e.Err):
		return "the credentials are wrong or have expired: log in again, then run this again"
	case apierrors.IsTooManyRequests(e.Err), apierrors.IsServerTimeout(e.Err), apierrors.IsTimeout(e.Err), apierrors.IsServiceUnavailable(e.Err):
		return "the API server is busy: run this again in a moment"
	case errors.Is(e.Err, syscall.ECONNREFUSED), errors.Is(e.Err, syscall.ECONNRESET), errors.Is(e.Err, io.EOF), errors.Is(e.Err, io.ErrUnexpectedEOF):
		return "the API server went away: run this again when it is back"
	}
	return ""
}

// byWebhook tells a refusal by an admission webhook from those of the API server itself, which always say which kind of
// object they are about.
func byWebhook(err error) bool {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return false
	}
	s := status.Status()
	return s.Code >= 400 && s.Code < 500 && s.Code != http.StatusUnauthorized && s.Code != http.StatusTooManyRequests && (s.Details == nil || s.Details.Kind == "")
}

// failed says what a request was about.
func failed(what fmt.Stringer, err error) error {
	return &RequestError{What: what.String(), Err: err}
}

// withoutURL drops what net/http says before every error: the method and the address.
func withoutURL(err error) error {
	var urlErr *url.Error
	if errors.As(err, &urlErr) {
		return urlErr.Err
	}
	return err
}
