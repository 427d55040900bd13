package main

import (
	"context"
	"errors"
	"io"
	"os/exec"
	"sync"
	"time"

	"github.com/pkg/sftp"
	"github.com/seed87e66d9f/waybill/examples/internal/host"
	"golang.org/x/crypto/ssh"
)

// client is one who has logged in.
type client struct {
	host *host.Host
	conn *ssh.ServerConn
}

// run does what the client asks for, until its connection ends and all of it has ended.
func (c *client) run(channels <-chan ssh.NewChannel, requests <-chan *ssh.Request) {
	ctx, cancel := context.WithCancel(context.Background())
	var busy sync.WaitGroup
	defer busy.Wait()
	defer cancel()
	busy.Go(func() { c.forward(ctx, requests) })
	for channel := range channels {
		busy.Go(func() {
			switch channel.ChannelType() {
			case "session":
				c.session(ctx, channel)
			case "direct-tcpip":
				c.direct(ctx, channel)
			default:
				channel.Reject(ssh.UnknownChannelType, "not here")
			}
		})
	}
}

// session runs the one command, shell or subsystem that a channel is for (RFC 4254 §6.5).
func (c *client) session(ctx context.Context, channel ssh.NewChannel) {
	ch, requests, err := channel.Accept()
	if err != nil {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	var busy sync.WaitGroup
	defer busy.Wait()
	defer cancel()
	for started := false; ; {
		r, open := <-requests
		if !open {
			return
		}
		var arg struct{ Text string }
		var start func() uint32
		switch err := ssh.Unmarshal(r.Payload, &arg); {
		case started:
		case r.Type == "shell":
			start = func() uint32 { return execute(ctx, ch) }
		case r.Type == "exec" && err == nil:
			start = func() uint32 { return execute(ctx, ch, "-c", arg.Text) }
		case r.Type == "subsystem" && arg.Text == "sftp":
			start = func() uint32 { return transfer(ch) }
		}
		r.Reply(start != nil, nil) // not to pty-req, so a shell has no terminal
		if start != nil {
			started = true
			busy.Go(func() {
				ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{start()}))
				ch.Close()
			})
		}
	}
}

// execute runs a shell and returns its exit status.
func execute(ctx context.Context, ch ssh.Channel, args ...string) uint32 {
	cmd := exec.CommandContext(ctx, "sh", args...)
	cmd.Stdout, cmd.Stderr = ch, ch.Stderr()
	cmd.WaitDelay = time.Second // for what it left behind, once it was killed
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return 255
	}
	go func() { // ends with the channel, which may be after the command
		io.Copy(stdin, ch)
		stdin.Close()
	}()
	var exit *exec.ExitError
	if err = cmd.Run(); errors.As(err, &exit) {
		return uint32(exit.ExitCode())
	} else if err != nil {
		return 127
	}
	return 0
}

// transfer serves files by SFTP.
func transfer(ch ssh.Channel) uint32 {
	s, err := sftp.NewServer(unclosed{ch})
	if err != nil {
		return 1
	}
	defer s.Close()
	if err := s.Serve(); err != nil && err != io.EOF {
		return 1
	}
	return 0
}

// unclosed is a channel that sftp does not close, or scp would not learn how it ended.
type unclosed struct{ ssh.Channel }

func (unclosed) Close() error { return nil }
