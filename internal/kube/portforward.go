package kube

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"k8s.io/apimachinery/pkg/util/httpstream" //nolint:staticcheck // client-go's port-forward still takes this one's types
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/spdy"
)

// Forward opens a port-forward from a free port of 127.0.0.1 to the pod's port and returns the local
// port. The forward ends with ctx.
func (c *Client) Forward(ctx context.Context, pod Ref, port int) (int, error) {
	dialer, err := c.dialer(pod)
	if err != nil {
		return 0, fmt.Errorf("port-forward to %s: %w", pod, err)
	}
	ready := make(chan struct{})
	forwarder, err := portforward.NewOnAddresses(dialer, []string{"127.0.0.1"}, []string{fmt.Sprintf(":%d", port)}, ctx.Done(), ready, io.Discard, io.Discard)
	if err != nil {
		return 0, fmt.Errorf("port-forward to %s: %w", pod, err)
	}
	failed := make(chan error, 1)
	go func() { failed <- forwarder.ForwardPorts() }()
	select {
	case err := <-failed:
		if err == nil {
			err = errors.New("it ended at once")
		}
		return 0, fmt.Errorf("port-forward to %s: %w", pod, err)
	case <-ctx.Done():
		return 0, fmt.Errorf("port-forward to %s: %w", pod, ctx.Err())
	case <-ready:
	}
	ports, err := forwarder.GetPorts()
	if err != nil {
		return 0, fmt.Errorf("port-forward to %s: %w", pod, err)
	}
	return int(ports[0].Local), nil
}

// dialer tunnels through a websocket and falls back to SPDY for API servers older than 1.30 (KEP-4006).
func (c *Client) dialer(pod Ref) (httpstream.Dialer, error) {
	url := c.typed.CoreV1().RESTClient().Post().Resource("pods").Namespace(pod.Namespace).Name(pod.Name).SubResource("portforward").URL()
	transport, upgrader, err := spdy.RoundTripperFor(c.config)
	if err != nil {
		return nil, err
	}
	old := spdy.NewDialer(upgrader, &http.Client{Transport: transport}, http.MethodPost, url)
	tunnel, err := portforward.NewSPDYOverWebsocketDialer(url, c.config)
	if err != nil {
		return nil, err
	}
	return portforward.NewFallbackDialer(tunnel, old, func(err error) bool {
		return httpstream.IsUpgradeFailure(err) || httpstream.IsHTTPSProxyError(err)
	}), nil
}
