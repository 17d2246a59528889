package stack

import (
	"strings"
	"testing"

	"github.com/pwdeploy/pwdeploy/internal/kube"
)

func TestDiagnose(t *testing.T) {
	const (
		serving = `{"time":"2026-11-27T12:00:00Z","level":"INFO","msg":"serving","version":"1"}`
		refused = `{"level":"WARN","msg":"Redis cannot serve","kind":"refused","error":"WRONGPASS invalid username-password pair or user is disabled."}`
		unknown = `{"level":"WARN","msg":"Redis cannot serve","kind":"dns","error":"dial tcp: lookup redis-master: no such host"}`
		away    = `{"level":"WARN","msg":"Redis cannot serve","kind":"unreachable","error":"connection refused"}`
		again   = `{"level":"INFO","msg":"Redis answers again","kind":"ok"}`
	)
	for name, tt := range map[string]struct {
		log          []string
		reason, hint string
		final, usual bool
		message      string
	}{
		"nothing of Redis":    {[]string{serving, "panic: no JSON"}, "Unready", "", false, true, "why"},
		"the password":        {[]string{serving, away, refused}, "RedisRefusesPassword", "rollout restart", true, false, "why; the app says: WRONGPASS"},
		"the name":            {[]string{unknown, serving}, "RedisNameUnknown", "kube-dns", false, true, "no such host"},
		"the network":         {[]string{refused, away}, "RedisUnreachable", "NetworkPolicy", false, true, "connection refused"},
		"Redis answers again": {[]string{refused, again}, "Unready", "", false, true, "why"},
	} {
		t.Run(name, func(t *testing.T) {
			p := &kube.Problem{Reason: "Unready", Message: "why", Usual: true, Evidence: tt.log}
			diagnose(p, tt.log)
			if p.Reason != tt.reason || p.Final != tt.final || p.Usual != tt.usual || !strings.Contains(p.Hint, tt.hint) || !strings.Contains(p.Message, tt.message) {
				t.Errorf("got %+v", p)
			}
			if told := tt.reason != "Unready"; told != (p.Evidence == nil) {
				t.Errorf("the evidence is %q", p.Evidence)
			}
		})
	}
}

// TestWaitingForRedis: what every first up has for a while is said in a word.
func TestWaitingForRedis(t *testing.T) {
	app := kube.Readiness{Ref: kube.Ref{GroupVersionKind: kube.DeploymentKind, Namespace: "pw", Name: "pw-crud"}, Message: "0/2 ready"}
	for reason, want := range map[string]string{
		"":               "Deployment pw-crud 0/2 ready",
		redisUnreachable: "Deployment pw-crud 0/2 ready, waiting for Redis",
		"ErrImagePull":   "Deployment pw-crud 0/2 ready (Pod pw/a: ErrImagePull: why)",
	} {
		state := app
		if reason != "" {
			state.Problem = &kube.Problem{Ref: kube.Ref{GroupVersionKind: kube.PodKind, Namespace: "pw", Name: "a"}, Reason: reason, Message: "why"}
		}
		if got := waitingFor([]kube.Readiness{state, {Ready: true}}); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
