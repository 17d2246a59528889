package cli

import (
	"context"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/pwdeploy/pwdeploy/internal/stack"
	"github.com/pwdeploy/pwdeploy/internal/ui"
)

// Interruptible gives a context that ends with the first Ctrl-C or SIGTERM. The second ends the process at once, as it
// does with any program: by then nobody listens.
func Interruptible(parent context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(parent)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		select {
		case <-signals:
		case <-ctx.Done():
		}
		signal.Stop(signals) // before anybody is told that a second one works
		cancel()
	}()
	return ctx, cancel
}

// stopping says that a command stops, and how to make it, if ctx ends before the function that it gives is called.
func stopping(ctx context.Context, progress ui.Progress) (done func()) {
	say := sync.OnceFunc(func() {
		progress.Handle(stack.Event{Kind: stack.Warning, Message: "stopping at the next safe point; Ctrl-C again stops at once"})
	})
	stop := context.AfterFunc(ctx, say)
	return func() {
		if !stop() {
			say() // it is being said: it comes before the last words
		}
	}
}
