package store

import (
	"context"
	"errors"
	"net"
	"strings"

	"github.com/redis/go-redis/v9"
)

var (
	// ErrNotFound says that the key is not set.
	ErrNotFound = errors.New("key not found")
	// ErrWrongType says that the key holds a list, a hash or the like, written
	// by somebody else.
	ErrWrongType = errors.New("key does not hold a string")
)

// Reason says why Redis could not serve a call. It is a metrics label, so
// there are few.
type Reason string

// The reasons, in the order in which one would look at them.
const (
	Unreachable Reason = "unreachable" // no connection, or it broke
	NameUnknown Reason = "dns"         // its name can't be looked up
	TimedOut    Reason = "timeout"     // connected, but no answer in time
	Refused     Reason = "refused"     // wrong or missing password, or no permission
	Loading     Reason = "loading"     // Redis is reading its data set
	ReadOnly    Reason = "readonly"    // a replica, or a master that lost its disk or replicas
	OutOfMemory Reason = "oom"         // maxmemory is reached
	Busy        Reason = "busy"        // too many clients, or a script is running
	Failed      Reason = "error"       // any other error reply
)

// UnavailableError says that Redis could not serve a call now and that trying
// again later may help.
type UnavailableError struct {
	Reason Reason
	Err    error
}

// Error names the reason and the cause. It holds no key, value or password.
func (e *UnavailableError) Error() string {
	return "redis is unavailable (" + string(e.Reason) + "): " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *UnavailableError) Unwrap() error { return e.Err }

// refused says whether Redis wants other credentials.
func refused(err error) bool {
	return redis.IsAuthError(err) || redis.IsPermissionError(err)
}

func classify(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, redis.Nil):
		return ErrNotFound
	case redis.HasErrorPrefix(err, "WRONGTYPE"):
		return ErrWrongType
	}
	reason := reasonOf(err)
	if reason == Failed {
		err = withoutArguments(err)
	}
	return &UnavailableError{Reason: reason, Err: err}
}

// withoutArguments keeps an error reply up to its first comma. What follows
// may quote the command's arguments ("ERR unknown command 'X', with args
// beginning with: ..."), and keys and values stay out of the logs.
func withoutArguments(err error) error {
	message, _, _ := strings.Cut(err.Error(), ",")
	return errors.New(message)
}

func reasonOf(err error) Reason {
	var reply redis.Error
	if errors.As(err, &reply) {
		return reasonOfReply(err)
	}
	var name *net.DNSError
	if errors.As(err, &name) {
		return NameUnknown
	}
	var network net.Error
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, redis.ErrPoolTimeout) || errors.As(err, &network) && network.Timeout() {
		return TimedOut
	}
	return Unreachable
}

// reasonOfReply reads Redis' error codes, the first word of an error reply:
// https://redis.io/docs/latest/develop/reference/protocol-spec/#simple-errors
func reasonOfReply(err error) Reason {
	switch {
	case refused(err):
		return Refused
	case redis.IsLoadingError(err):
		return Loading
	case redis.IsOOMError(err):
		return OutOfMemory
	case redis.IsReadOnlyError(err), redis.IsNoReplicasError(err), redis.HasErrorPrefix(err, "MISCONF"):
		return ReadOnly
	case redis.IsMaxClientsError(err), redis.HasErrorPrefix(err, "BUSY"):
		return Busy
	}
	return Failed
}
