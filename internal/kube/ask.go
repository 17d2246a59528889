package kube

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	corev1 "k8s.io/api/core/v1"
)

// query is something that explains a problem and is not watched, because it is rarely needed and may be
// forbidden: nodes, StorageClasses, a container's log. What is refused only makes the explanation poorer.
type query struct {
	ref       Ref    // without a name: all of its kind in the namespace, or in the cluster
	selector  string // of labels
	container string // then the last lines of its log, of the Pod ref
}

// answer is what a query brought.
type answer struct {
	known bool // it was answered, and in full
	objs  []*unstructured.Unstructured
	lines []string
}

// asked is the state of one query.
type asked struct {
	answer  answer
	version string // what the answer belongs to
	at      time.Time
	times   int
	running bool
}

// answers remembers what was asked. The explaining code asks and goes on without an answer; whoever looks
// carries out what is due and explains again.
type answers struct {
	mu     sync.Mutex
	asked  map[query]*asked
	wanted map[query]string
}

func newAnswers() *answers {
	return &answers{asked: map[query]*asked{}, wanted: map[query]string{}}
}

// get gives the answer as far as there is one, and notes that it is wanted. A new version of what is asked
// for, the restarts of a container say, makes an older answer worth asking for again.
func (a *answers) get(q query, version string) answer {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.wanted[q] = version
	if known := a.asked[q]; known != nil {
		return known.answer
	}
	return answer{}
}

// has reports whether this version of what a query asks for was answered, be it by an error.
func (a *answers) has(q query, version string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	known := a.asked[q]
	return known != nil && known.times > 0 && known.version == version
}

// Objects that explain a problem are read again after refreshAfter, if it lasts; the log of a container that
// has news after askAgain at first, then ever more rarely.
const (
	refreshAfter = 15 * time.Second
	askAgain     = time.Second
	askRarely    = 30 * time.Second
)

// due takes the queries that are wanted and have no answer that is fresh enough.
func (a *answers) due(now time.Time) map[query]string {
	a.mu.Lock()
	defer a.mu.Unlock()
	due := map[query]string{}
	for q, version := range a.wanted {
		known := a.asked[q]
		if known == nil {
			known = &asked{at: now}
			a.asked[q] = known
		}
		if known.running || !known.stale(q, version, now) {
			continue
		}
		known.running = true
		due[q] = version
	}
	clear(a.wanted)
	return due
}

// expectFor is how long a first answer is worth waiting for before a problem is told without it.
const expectFor = time.Second

// expected reports whether the first answer to a query may come any moment.
func (a *answers) expected(now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, k := range a.asked {
		if k.times == 0 && k.running && now.Sub(k.at) < expectFor {
			return true
		}
	}
	return false
}

func (k *asked) stale(q query, version string, now time.Time) bool {
	age := now.Sub(k.at)
	switch {
	case k.times == 0:
		return true
	case q.container != "":
		return version != k.version && age >= min(askAgain<<min(k.times-1, 10), askRarely)
	}
	return age >= refreshAfter
}

func (a *answers) put(q query, version string, got answer, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	k := a.asked[q]
	k.answer, k.version, k.at, k.running = got, version, now, false
	k.times++
}

// askTimeout bounds one query: an explanation is not worth more.
const askTimeout = 5 * time.Second

// carryOut answers a query. An error is an answer that is not known.
func (c *Client) carryOut(ctx context.Context, q query) answer {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	got, err := c.ask(ctx, q)
	if err != nil {
		c.log.DebugContext(ctx, "a problem is explained without this", "object", q.ref.String(), "container", q.container, "error", err)
		return answer{}
	}
	return got
}

// askAtMost is how many objects a query reads: in a cluster with more, an answer would be slow and not say
// more to a person.
const askAtMost = 500

func (c *Client) ask(ctx context.Context, q query) (answer, error) {
	if q.container != "" {
		lines, err := c.lastLines(ctx, q.ref, q.container)
		return answer{known: err == nil, lines: lines}, err
	}
	if q.ref.Name != "" {
		obj, err := c.Find(ctx, q.ref)
		if err != nil || obj == nil {
			return answer{known: err == nil}, err
		}
		return answer{known: true, objs: []*unstructured.Unstructured{keepSecret(obj)}}, nil
	}
	r, err := c.resource(q.ref)
	if err != nil {
		return answer{}, err
	}
	list, err := r.List(ctx, metav1.ListOptions{LabelSelector: q.selector, Limit: askAtMost})
	if err != nil {
		return answer{}, failed(listOf(q.ref), err)
	}
	got := answer{known: list.GetContinue() == ""}
	for i := range list.Items {
		got.objs = append(got.objs, &list.Items[i])
	}
	return got, nil
}

// keepSecret forgets a Secret's values: its keys are all that explains anything.
func keepSecret(obj *unstructured.Unstructured) *unstructured.Unstructured {
	data, ok := obj.Object["data"].(map[string]any)
	if ok && obj.GetKind() == SecretKind.Kind {
		for key := range data {
			data[key] = ""
		}
	}
	return obj
}

// What is read of a log, and how much of it is shown.
const (
	readLogLines = 30
	readLogBytes = 32 << 10
	showLogLines = 5
)

// lastLines reads the end of a container's log: of the one that runs, or ended last.
func (c *Client) lastLines(ctx context.Context, pod Ref, container string) ([]string, error) {
	var lines []string
	var err error
	for _, previous := range []bool{false, true} {
		lines, err = c.logs(ctx, pod, container, previous)
		if len(lines) > 0 && err == nil {
			return lines, nil
		}
		if previous && apierrors.IsBadRequest(err) {
			return nil, nil // there was none before
		}
	}
	return lines, err
}

func (c *Client) logs(ctx context.Context, pod Ref, container string, previous bool) ([]string, error) {
	tail, limit := int64(readLogLines), int64(readLogBytes)
	options := &corev1.PodLogOptions{Container: container, TailLines: &tail, LimitBytes: &limit, Previous: previous}
	raw, err := c.typed.CoreV1().Pods(pod.Namespace).GetLogs(pod.Name, options).DoRaw(ctx)
	if err != nil {
		return nil, failed(logOf(pod), err)
	}
	text := strings.TrimSpace(string(raw))
	if text == "" {
		return nil, nil
	}
	return strings.Split(text, "\n"), nil
}

// logOf words a log.
type logOf Ref

// String implements fmt.Stringer.
func (l logOf) String() string { return "log of " + Ref(l).String() }

// answerAll carries queries out side by side and says when all are answered.
func (c *Client) answerAll(ctx context.Context, a *answers, due map[query]string) {
	var group sync.WaitGroup
	limit := make(chan struct{}, parallelism)
	for _, q := range slices.Collect(maps.Keys(due)) {
		group.Go(func() {
			limit <- struct{}{}
			defer func() { <-limit }()
			a.put(q, due[q], c.carryOut(ctx, q), time.Now())
		})
	}
	group.Wait()
}
