package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"
)

const (
	// period is how long a client waits from one request to the next.
	period = 40 * time.Millisecond
	// clients together send a request every 10 ms. Every other one takes a new connection for each request.
	clients = 4
	// patience is when a client gives up waiting for an answer, reach when it gives up connecting.
	patience, reach = 15 * time.Second, 3 * time.Second
	// quickly bounds a 503 as a client sees it. The service's own bound is 1 s; the rest is for a loaded machine.
	quickly = 5 * time.Second
	// tooSlow is the service's answer when Redis doesn't give one.
	tooSlow = `{"detail":"Redis did not answer in time"}`
)

// load is clients that store values and read them back, all the time, through the ingress. No key is stored twice, so
// that what was acknowledged is known for certain.
type load struct {
	// addresses are taken in turn, as by a load balancer without an opinion.
	addresses []string
	// moves lets a request that no answer came for, because nobody took the connection or it was closed, go to the next
	// address. Every request may be repeated: storing the same value twice is the same as once.
	moves bool
	// outage lets the service answer 503.
	outage bool

	stop context.CancelFunc
	done sync.WaitGroup
	mu   sync.Mutex
	tally
}

// tally is what became of the requests.
type tally struct {
	requests, failed, refused, moved int
	// late is 503 because Redis didn't answer in time on a machine that is busy with other work.
	late int
	// streak is the requests since the last that failed or was refused.
	streak int
	// slowest is how long the slowest refusal took.
	slowest      time.Duration
	failures     []string
	acknowledged []string
}

// begin starts the clients and returns when they are being served.
func (l *load) begin(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	l.stop = cancel
	run := time.Now().UnixNano()
	for n := range clients {
		c := &client{load: l, name: fmt.Sprintf("%x-%d", run, n), turn: n, transport: &http.Transport{
			DialContext: (&net.Dialer{Timeout: reach}).DialContext, DisableKeepAlives: n%2 == 1,
		}}
		l.done.Go(func() { c.run(ctx) })
	}
	l.steady(t)
}

// steady waits until a second's worth of requests has been served in a row.
func (l *load) steady(t *testing.T) {
	t.Helper()
	from := l.now().requests
	eventually(t, "the load is served", func(context.Context) (bool, error) {
		now := l.now()
		return now.requests-from >= 100 && now.streak >= 100, nil
	})
}

// end stops the clients after a second's worth of requests more, and says what became of them all.
func (l *load) end(t *testing.T) tally {
	t.Helper()
	l.steady(t)
	l.stop()
	l.done.Wait()
	got := l.now()
	t.Logf("requests %d, failed %d, answered 503 %d (the slowest after %s), moved to the other node %d",
		got.requests, got.failed, got.refused, got.slowest.Round(time.Millisecond), got.moved)
	if got.late > 0 {
		t.Logf("not counted as failed: %d that Redis didn't answer in time, because this machine is overloaded", got.late)
	}
	for _, failure := range got.failures {
		t.Error(failure)
	}
	return got
}

func (l *load) now() tally {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.tally
}

// note counts a request. wrong is what is wrong with its answer.
func (l *load) note(a answer, wrong string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.requests++
	l.moved += a.moved
	if wrong == "" {
		l.streak++
		return
	}
	l.streak = 0
	if l.outage && a.status == http.StatusServiceUnavailable && a.took < quickly {
		l.refused++
		l.slowest = max(l.slowest, a.took)
		return
	}
	if a.status == http.StatusServiceUnavailable && a.body == tooSlow && overloaded() {
		l.late++
		return
	}
	l.failed++
	if len(l.failures) < 10 {
		l.failures = append(l.failures, time.Now().Format("15:04:05.000 ")+wrong)
	}
}

// overloaded says whether far more processes want to run than this machine has processors for: then the second that
// Redis has for an answer may pass before it gets to run at all, whatever is done to the cluster.
func overloaded() bool {
	average, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return false
	}
	var lastMinute float64
	_, err = fmt.Sscan(string(average), &lastMinute)
	return err == nil && lastMinute > float64(4*runtime.NumCPU())
}

func (l *load) acknowledge(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.acknowledged = append(l.acknowledged, key)
}

// client is one of the load's clients.
type client struct {
	load      *load
	name      string
	turn      int
	transport *http.Transport
}

// answer is what a client got for a request.
type answer struct {
	status int
	body   string
	err    error
	moved  int
	took   time.Duration
}

// run stores a value and reads the last acknowledged one back, in turn, until ctx ends. A request under way is finished.
func (c *client) run(ctx context.Context) {
	defer c.transport.CloseIdleConnections()
	ticker := time.NewTicker(period)
	defer ticker.Stop()
	acknowledged := ""
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if n%2 == 1 && acknowledged != "" {
			c.expect(ctx, http.MethodGet, "/pw/"+acknowledged, fmt.Sprintf("%q", valueOf(acknowledged)))
			continue
		}
		key := fmt.Sprintf("%s-%d", c.name, n)
		want := fmt.Sprintf(`{"key":%q,"value":%q}`, key, valueOf(key))
		if c.expect(ctx, http.MethodPost, "/pw/"+key+"/"+valueOf(key), want) {
			acknowledged = key
			c.load.acknowledge(key)
		}
	}
}

func valueOf(key string) string { return "of-" + key }

// expect sends a request and says whether its answer is this one.
func (c *client) expect(ctx context.Context, method, path, want string) bool {
	a := c.ask(context.WithoutCancel(ctx), method, path)
	wrong := ""
	if a.err != nil || a.status != http.StatusOK || a.body != want {
		wrong = fmt.Sprintf("%s %s: %d %.200q, %v, after %s; want %s", method, path, a.status, a.body, a.err, a.took, want)
	}
	c.load.note(a, wrong)
	return wrong == ""
}

// ask sends a request to the address whose turn it is and, where the load allows it, to the next ones.
func (c *client) ask(ctx context.Context, method, path string) answer {
	begin := time.Now()
	var a answer
	for moved := range c.load.addresses {
		c.turn++
		address := c.load.addresses[c.turn%len(c.load.addresses)]
		a = answer{moved: moved}
		a.status, a.body, a.err = c.send(ctx, method, address, path)
		if !c.load.moves || !unanswered(a) {
			break
		}
	}
	a.took = time.Since(begin)
	return a
}

// unanswered says that the connection wasn't taken, or was closed before an answer. Waiting in vain is a failure.
func unanswered(a answer) bool {
	if a.err == nil || a.status != 0 {
		return false
	}
	var dialled *net.OpError
	return errors.As(a.err, &dialled) && dialled.Op == "dial" || !errors.Is(a.err, context.DeadlineExceeded)
}

// send sends one request. The status is 0 if no answer began.
func (c *client) send(ctx context.Context, method, address, path string) (int, string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, "http://"+address+path, nil)
	if err != nil {
		return 0, "", err
	}
	request.Host = host
	response, err := c.transport.RoundTrip(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return response.StatusCode, string(body), err
}

// readBack asks for every value that was acknowledged, and returns how many there were.
func (l *load) readBack(t *testing.T) int {
	t.Helper()
	keys := make(chan string)
	var readers sync.WaitGroup
	for n := range 2 * clients {
		c := &client{load: l, turn: n, transport: &http.Transport{}}
		readers.Go(func() {
			defer c.transport.CloseIdleConnections()
			for key := range keys {
				a := c.ask(t.Context(), http.MethodGet, "/pw/"+key)
				if a.err != nil || a.body != fmt.Sprintf("%q", valueOf(key)) {
					t.Errorf("acknowledged and lost: %s: %d %.200q, %v", key, a.status, a.body, a.err)
				}
			}
		})
	}
	stored := l.now().acknowledged
	for _, key := range stored {
		keys <- key
	}
	close(keys)
	readers.Wait()
	return len(stored)
}
