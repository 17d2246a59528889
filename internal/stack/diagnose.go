package stack

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/pwdeploy/pwdeploy/internal/kube"
)

// serviceLine is a line of the app's log that says how it fares with Redis: see service/internal/store.
type serviceLine struct {
	Kind  string `json:"kind"` // why Redis can't serve; ok when it does again
	Error string `json:"error"`
}

// refusalPatience is how long Redis may refuse the password: it is being restarted with a new one, perhaps.
const refusalPatience = 20 * time.Second

// redisUnreachable is the reason of an app that waits for Redis, as every first up has it for a while.
const redisUnreachable = "RedisUnreachable"

// diagnose names the cause of an app that is not ready by what it logs about Redis.
func diagnose(p *kube.Problem, log []string) {
	line, ok := lastServiceLine(log)
	if !ok {
		return
	}
	switch line.Kind {
	case "refused":
		p.Reason, p.Usual, p.Final, p.Patience = "RedisRefusesPassword", false, true, refusalPatience
		p.Hint = "Redis was started with another password than the app has: if the Secret was changed or restored, kubectl rollout restart Redis' StatefulSets, then run pwdeploy up again; Redis' data stays"
	case "dns":
		p.Reason = "RedisNameUnknown"
		p.Hint = "the cluster's DNS does not know Redis' Service: it does a moment after Redis is installed. If it lasts, look at the pods of the DNS: kubectl get pods -n kube-system -l k8s-app=kube-dns"
	case "unreachable", "timeout":
		p.Reason = redisUnreachable
		p.Hint = "the app waits for Redis. If Redis is ready, look for a NetworkPolicy or a network plugin between their namespaces"
	case "loading":
		p.Reason = "RedisLoading"
		p.Hint = "Redis reads its data from the disk and answers when it is done"
	default:
		return
	}
	p.Message += fmt.Sprintf("; the app says: %s", line.Error)
	p.Evidence = nil // that is what the log says, in a word
}

// lastServiceLine is the newest line that speaks of Redis, unless Redis answers again.
func lastServiceLine(log []string) (serviceLine, bool) {
	for i := len(log) - 1; i >= 0; i-- {
		var line serviceLine
		if json.Unmarshal([]byte(log[i]), &line) == nil && line.Kind != "" {
			return line, line.Kind != "ok"
		}
	}
	return serviceLine{}, false
}
