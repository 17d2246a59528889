package kube

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	typedcoordinationv1 "k8s.io/client-go/kubernetes/typed/coordination/v1"
)

// LockName is the Lease in the app's namespace that the run which changes a deployment holds.
const LockName = "pwdeploy"

// LeaseDuration is how long a holder that gives no sign of life keeps the lock. It is renewed three times
// as often.
const LeaseDuration = 15 * time.Second

// commandAnnotation says on the Lease what the holder is doing: "up".
const commandAnnotation = "pwdeploy/command"

// LockOptions says which lock to take and for whom.
type LockOptions struct {
	Namespace string        // must be there; it is the instance too
	Who       string        // the holder as people should read it: "anna@laptop pid 4242"
	Command   string        // what it does: "up"
	Duration  time.Duration // whole seconds; 0 means LeaseDuration
	Timeout   time.Duration // how much longer a holder that is alive is waited for
	Waiting   func(Holder)  // told once who is waited for; may be nil
	Stalled   func(error)   // told when the lock can't be renewed, and writes wait; may be nil
}

// Holder is who holds a lock, as its Lease says.
type Holder struct {
	Who     string
	Command string
	Since   time.Time // by the holder's clock
}

// LockedError says that another run, which is alive, changes the same deployment.
type LockedError struct {
	Ref    Ref
	Holder Holder
	Waited time.Duration
}

func (e *LockedError) Error() string {
	return fmt.Sprintf("another run is at work on this deployment: %s, pwdeploy %s, since %s",
		e.Holder.Who, e.Holder.Command, e.Holder.Since.UTC().Format("2006-01-02 15:04:05 MST"))
}

// Hint says what to do.
func (e *LockedError) Hint() string {
	return "run this again when it is done, or let it wait with --lock-timeout 10m; a run that was killed loses its lock after 15 s"
}

// LockLostError says that the lock was taken away while the run held it, so that another run may be at work.
// The run ends; what it did until then stays.
type LockLostError struct {
	Ref    Ref
	Holder Holder // who has it now; empty: it was deleted
}

func (e *LockLostError) Error() string {
	if e.Holder.Who == "" {
		return fmt.Sprintf("%s, the lock of this run, was deleted", e.Ref)
	}
	return fmt.Sprintf("%s, the lock of this run, was taken over by %s (pwdeploy %s): this run could not renew it in time", e.Ref, e.Holder.Who, e.Holder.Command)
}

// Hint says what to do.
func (e *LockLostError) Hint() string {
	return "when no other run is at work, run this again; it goes on from where things are"
}

// Lock is a Lease that this run holds, and renews until it is released. While it is not known to be held,
// nothing is written to the cluster through its Client.
type Lock struct {
	Contended bool // somebody else held it when it was first looked at: what was read before may be out of date

	client  *Client
	options LockOptions
	id      string             // what stands in the Lease: Who and a random part
	lose    func(cause error)  // ends the context of the run
	stop    context.CancelFunc // ends the heartbeat
	stopped chan struct{}

	mu      sync.Mutex
	lease   *coordinationv1.Lease
	renewed time.Time     // when the last renewal that succeeded was sent
	news    chan struct{} // closed, and replaced, when one of these changes
	lost    error
	stalled bool
}

// Lock takes the lock, which says that this run alone changes the deployment, and gives the context that ends
// when it is lost, with a *LockLostError as its cause.
//
// Whether a holder is alive is judged by observation, as client-go's leader election does: one whose Lease
// does not change, on our clock, for as long as it says it lasts is dead, and the lock is taken over. That is
// right however wrong the clocks are. One that is alive and stays longer than Timeout is a *LockedError.
func (c *Client) Lock(ctx context.Context, o LockOptions) (context.Context, *Lock, error) {
	if o.Duration == 0 {
		o.Duration = LeaseDuration
	}
	l := &Lock{client: c, options: o, id: o.Who + "/" + strings.ToLower(rand.Text()[:8]), news: make(chan struct{}), stopped: make(chan struct{})}
	if err := l.acquire(ctx); err != nil {
		return nil, nil, err
	}
	run, lose := context.WithCancelCause(ctx)
	beat, stop := context.WithCancel(context.WithoutCancel(ctx))
	l.lose, l.stop = lose, stop
	c.traffic.guard(l)
	go l.keep(beat)
	return run, l, nil
}

func (l *Lock) ref() Ref {
	return Ref{GroupVersionKind: LeaseKind, Namespace: l.options.Namespace, Name: LockName}
}

func (l *Lock) leases() typedcoordinationv1.LeaseInterface {
	return l.client.typed.CoordinationV1().Leases(l.options.Namespace)
}

// sight is what was seen of a Lease, and since when it has been like that.
type sight struct {
	version string
	holder  Holder
	lasts   time.Duration
	since   time.Time
	alive   bool // it changed while it was looked at
	aliveAt time.Time
}

func (s *sight) look(lease *coordinationv1.Lease, now time.Time) {
	version := string(lease.UID) + "/" + lease.ResourceVersion
	if version == s.version {
		return
	}
	if s.version != "" && !s.alive {
		s.alive, s.aliveAt = true, now
	}
	s.version, s.since, s.holder = version, now, holderOf(lease)
	s.lasts = LeaseDuration
	if d := lease.Spec.LeaseDurationSeconds; d != nil && *d > 0 {
		s.lasts = time.Duration(*d) * time.Second
	}
}

func (s *sight) expired(now time.Time) bool { return now.Sub(s.since) >= s.lasts }

func holderOf(lease *coordinationv1.Lease) Holder {
	h := Holder{Command: lease.Annotations[commandAnnotation]}
	if id := lease.Spec.HolderIdentity; id != nil {
		h.Who, _, _ = strings.Cut(*id, "/")
	}
	if t := lease.Spec.AcquireTime; t != nil {
		h.Since = t.Time
	}
	return h
}

// acquire looks and acts until the lock is ours or can't be had.
func (l *Lock) acquire(ctx context.Context) error {
	ctx = outsideOfLock(ctx)
	var seen sight
	begin, answered := time.Now(), time.Now()
	for {
		err := l.try(ctx, &seen)
		now := time.Now()
		switch {
		case err == nil:
			return nil
		case errors.Is(err, errHeld):
			answered = now
			if err := l.patience(&seen, begin, now); err != nil {
				return err
			}
		case ctx.Err() != nil || !mayPass(err) || now.Sub(answered) > l.options.Duration:
			return failed(l.ref(), err)
		}
		pause(ctx, l.options.Duration/15)
		if ctx.Err() != nil {
			return l.outOfTime(ctx, &seen, begin)
		}
	}
}

// errHeld marks that somebody else holds the lock and may be alive.
var errHeld = errors.New("the lock is held")

// patience says when a holder that is alive was waited for long enough, and tells who is waited for.
func (l *Lock) patience(seen *sight, begin, now time.Time) error {
	if !l.Contended && l.options.Waiting != nil {
		l.options.Waiting(seen.holder)
	}
	l.Contended = true
	if seen.alive && now.Sub(seen.aliveAt) >= l.options.Timeout {
		return &LockedError{Ref: l.ref(), Holder: seen.holder, Waited: now.Sub(begin)}
	}
	return nil
}

// outOfTime says why the lock was not had when the context of the run ended.
func (l *Lock) outOfTime(ctx context.Context, seen *sight, begin time.Time) error {
	if l.Contended && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return &LockedError{Ref: l.ref(), Holder: seen.holder, Waited: time.Since(begin)}
	}
	return ctx.Err()
}

// mayPass reports whether a request to a Lease may succeed later. What the server decided on purpose does not.
func mayPass(err error) bool {
	return !apierrors.IsForbidden(err) && !apierrors.IsUnauthorized(err) && !apierrors.IsInvalid(err) &&
		!apierrors.IsNotFound(err) && !apierrors.IsBadRequest(err) && !apierrors.IsMethodNotSupported(err)
}

// try makes one attempt. errHeld says that somebody else has the lock.
func (l *Lock) try(ctx context.Context, seen *sight) error {
	sent := time.Now()
	lease, err := l.leases().Get(ctx, LockName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		made, err := l.leases().Create(ctx, l.claim(nil), metav1.CreateOptions{FieldManager: FieldManager})
		if apierrors.IsAlreadyExists(err) {
			return l.try(ctx, seen)
		}
		return l.take(made, err, sent)
	}
	if err != nil {
		return err
	}
	if l.holds(lease) { // the answer to an attempt of ours got lost
		return l.take(lease, nil, sent)
	}
	seen.look(lease, time.Now())
	if seen.holder.Who != "" && !seen.expired(time.Now()) {
		return errHeld
	}
	updated, err := l.leases().Update(ctx, l.claim(lease), metav1.UpdateOptions{FieldManager: FieldManager})
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) { // it is alive after all, it left, or another took over
		return errHeld
	}
	return l.take(updated, err, sent)
}

func (l *Lock) holds(lease *coordinationv1.Lease) bool {
	return lease.Spec.HolderIdentity != nil && *lease.Spec.HolderIdentity == l.id
}

// claim is the Lease with us as its holder: a new one, or, with its resource version, the one that is there.
func (l *Lock) claim(there *coordinationv1.Lease) *coordinationv1.Lease {
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: LockName, Namespace: l.options.Namespace}}
	transitions := int32(0)
	if there != nil {
		lease = there.DeepCopy()
		if t := there.Spec.LeaseTransitions; t != nil {
			transitions = *t + 1
		}
	}
	if lease.Labels == nil {
		lease.Labels = map[string]string{}
	}
	lease.Labels[ManagedByLabel], lease.Labels[InstanceLabel] = ManagedBy, l.options.Namespace
	if lease.Annotations == nil {
		lease.Annotations = map[string]string{}
	}
	lease.Annotations[commandAnnotation] = l.options.Command
	seconds, now := int32(l.options.Duration/time.Second), metav1.NowMicro()
	lease.Spec = coordinationv1.LeaseSpec{
		HolderIdentity: &l.id, LeaseDurationSeconds: &seconds, AcquireTime: &now, RenewTime: &now, LeaseTransitions: &transitions,
	}
	return lease
}

// take notes that the lock is held, by a request that was sent at that time.
func (l *Lock) take(lease *coordinationv1.Lease, err error, sent time.Time) error {
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lease, l.renewed, l.stalled = lease, sent, false
	close(l.news)
	l.news = make(chan struct{})
	return nil
}

// keep renews the lock until it is released or lost.
func (l *Lock) keep(ctx context.Context) {
	defer close(l.stopped)
	ctx = outsideOfLock(ctx)
	interval := l.options.Duration / 3
	for wait := interval; ; {
		pause(ctx, wait)
		if ctx.Err() != nil {
			return
		}
		wait = interval
		err := l.renew(ctx)
		var lost *LockLostError
		switch {
		case err == nil || ctx.Err() != nil:
		case errors.As(err, &lost):
			l.giveUp(lost)
			return
		default:
			wait = interval / 5
			l.stall(err)
		}
	}
}

// renew writes a sign of life. A write whose answer is lost has changed the Lease: then it is read again.
func (l *Lock) renew(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, l.options.Duration/3)
	defer cancel()
	sent, now := time.Now(), metav1.NowMicro()
	l.mu.Lock()
	lease := l.lease.DeepCopy()
	l.mu.Unlock()
	lease.Spec.RenewTime = &now
	updated, err := l.leases().Update(ctx, lease, metav1.UpdateOptions{FieldManager: FieldManager})
	if !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
		return l.take(updated, err, sent)
	}
	there, err := l.leases().Get(ctx, LockName, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return &LockLostError{Ref: l.ref()}
	case err != nil:
		return err
	case !l.holds(there):
		return &LockLostError{Ref: l.ref(), Holder: holderOf(there)}
	}
	return l.take(there, nil, sent)
}

func (l *Lock) giveUp(lost error) {
	l.mu.Lock()
	l.lost = lost
	close(l.news)
	l.news = make(chan struct{})
	l.mu.Unlock()
	l.lose(lost)
}

// stall tells once that writes wait.
func (l *Lock) stall(err error) {
	l.mu.Lock()
	tell := !l.stalled && l.stale()
	l.stalled = l.stalled || tell
	l.mu.Unlock()
	if tell && l.options.Stalled != nil {
		l.options.Stalled(failed(l.ref(), err))
	}
}

// stale reports whether the last renewal is so long ago that another run might be about to take over. Both
// clocks have to agree that it is not: the monotonic one stands still while a machine sleeps. A third of
// the duration is left for requests that are under way. It needs the lock.
func (l *Lock) stale() bool {
	age := max(time.Since(l.renewed), time.Now().Round(0).Sub(l.renewed.Round(0)))
	return age > l.options.Duration*2/3
}

// pass returns when something may be written, or an error if it may not be any more.
func (l *Lock) pass(ctx context.Context) error {
	for {
		l.mu.Lock()
		lost, ok, news := l.lost, !l.stale(), l.news
		l.mu.Unlock()
		switch {
		case lost != nil:
			return lost
		case ok:
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-news:
		}
	}
}

// Abandon ends the heartbeat and leaves the Lease where it is: its namespace is about to be deleted, and it
// goes with that. Until then nobody else takes the lock for as long as it lasts.
func (l *Lock) Abandon() {
	l.stop()
	<-l.stopped
	l.client.traffic.guard(nil)
}

// Release ends the heartbeat and deletes the Lease, if it is still ours. It works after the end of the
// context that the lock was taken with, and takes a few seconds at most.
func (l *Lock) Release(ctx context.Context) error {
	l.Abandon()
	ctx, cancel := context.WithTimeout(outsideOfLock(context.WithoutCancel(ctx)), l.options.Duration/3)
	defer cancel()
	l.mu.Lock()
	lease := l.lease
	l.mu.Unlock()
	for {
		err := l.leases().Delete(ctx, LockName, metav1.DeleteOptions{
			Preconditions: &metav1.Preconditions{UID: &lease.UID, ResourceVersion: &lease.ResourceVersion},
		})
		if err == nil || apierrors.IsNotFound(err) {
			return nil
		}
		if apierrors.IsConflict(err) {
			there, getErr := l.leases().Get(ctx, LockName, metav1.GetOptions{})
			if apierrors.IsNotFound(getErr) || getErr == nil && !l.holds(there) {
				return nil
			}
			if getErr == nil {
				lease = there
				continue
			}
		}
		if ctx.Err() != nil || !mayPass(err) {
			return failed(l.ref(), err)
		}
		pause(ctx, l.options.Duration/60)
	}
}
