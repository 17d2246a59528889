package server

import (
	"net/http"
	"runtime"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/pwdeploy/pwdeploy/service/internal/store"
)

// Metrics counts what the service does. Its labels are routes and reasons,
// never keys, so their number is bounded.
type Metrics struct {
	registry      *prometheus.Registry
	requests      *prometheus.CounterVec
	durations     *prometheus.HistogramVec
	inFlight      prometheus.Gauge
	redisUp       prometheus.Gauge
	redisFailures *prometheus.CounterVec
}

var _ store.Observer = (*Metrics)(nil)

// NewMetrics prepares the metrics in a registry of their own.
func NewMetrics(version string) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "crud_http_requests_total", Help: "Requests answered, by method, route and status code.",
		}, []string{"method", "route", "code"}),
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "crud_http_request_duration_seconds", Help: "Time to answer a request, by method and route.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5},
		}, []string{"method", "route"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "crud_http_requests_in_flight", Help: "Requests being answered now.",
		}),
		redisUp: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "crud_redis_up", Help: "1 if Redis served the latest call, 0 if not.",
		}),
		redisFailures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "crud_redis_failures_total", Help: "Calls that Redis could not serve, by reason.",
		}, []string{"reason"}),
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "crud_build_info", Help: "Always 1; the labels say what is running.",
		ConstLabels: prometheus.Labels{"version": version, "goversion": runtime.Version()},
	})
	build.Set(1)
	m.registry.MustRegister(m.requests, m.durations, m.inFlight, m.redisUp, m.redisFailures, build,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// RedisUp notes whether Redis served the latest call.
func (m *Metrics) RedisUp(up bool) {
	value := 0.0
	if up {
		value = 1
	}
	m.redisUp.Set(value)
}

// RedisFailed counts a call that Redis could not serve.
func (m *Metrics) RedisFailed(reason store.Reason) {
	m.redisFailures.WithLabelValues(string(reason)).Inc()
}

func (m *Metrics) answered(method, route string, status int, took time.Duration) {
	m.requests.WithLabelValues(method, route, strconv.Itoa(status)).Inc()
	m.durations.WithLabelValues(method, route).Observe(took.Seconds())
}

// handler serves GET /metrics and nothing else.
func (m *Metrics) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{Registry: m.registry}))
	return mux
}
