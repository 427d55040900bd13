package tcp

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// fastRun is a client with a cookie and a listener over a wire that loses, repeats and delays.
type fastRun struct {
	now    time.Duration
	random *rand.Rand
	wire   []flying
	client *TCB
	l      *Listener
	server *TCB
	config Config
	got    [2][]byte // what the client and the server have read
}

// put sends a segment of end from.
func (r *fastRun) put(from int, s *Segment) {
	b := make([]byte, MaxHeaderLen)
	b = append(b[:s.Encode(b, Ports{1, 2})], bytes.Join(s.Text, nil)...)
	for copies := 1; copies > 0; copies-- {
		switch x := r.random.IntN(100); {
		case x < 25:
		case x < 35:
			copies += 2
			fallthrough
		default:
			r.wire = append(r.wire, flying{at: r.now + time.Duration(5+r.random.IntN(60))*ms, to: 1 - from, data: b})
		}
		if copies > 3 {
			break
		}
	}
}

// take lets a segment arrive.
func (r *fastRun) take(to int, b []byte) {
	var s Segment
	s.Decode(b)
	if to == 0 {
		r.client.Arrive(r.now, &s)
		return
	}
	if r.server != nil {
		r.server.Arrive(r.now, &s)
		return
	}
	reply, t, _ := r.l.Arrive(r.now, testFlow(1), &s, &r.config)
	if reply.Flags != 0 {
		r.put(1, &reply)
	}
	r.server = t
}

// settle is users and output.
func (r *fastRun) settle() {
	var s Segment
	for k, t := range []*TCB{r.client, r.server} {
		if t == nil {
			continue
		}
		b := make([]byte, 1<<16)
		r.got[k] = append(r.got[k], b[:t.Read(r.now, b)]...)
		for t.Next(r.now, &s) {
			r.put(k, &s)
		}
		if k == 1 && len(r.got[1]) > 0 && t.Info().Unsent+t.Info().InFlight == 0 && !t.finQueued {
			t.Write(r.now, bytes.Repeat([]byte("answer"), 2000))
			t.Close(r.now)
		}
		if k == 0 && t.State() == CloseWait {
			t.Close(r.now)
		}
		for t.Next(r.now, &s) {
			r.put(k, &s)
		}
	}
	for _, ok := r.l.Next(r.now, &s); ok; _, ok = r.l.Next(r.now, &s) {
		r.put(1, &s)
	}
}

// step goes to what happens next.
func (r *fastRun) step() bool {
	next := time.Duration(-1)
	sooner := func(at time.Duration, ok bool) {
		if ok && (next < 0 || at < next) {
			next = max(at, r.now)
		}
	}
	for i := range r.wire {
		sooner(r.wire[i].at, true)
	}
	sooner(r.client.Deadline())
	sooner(r.l.Deadline())
	if r.server != nil {
		sooner(r.server.Deadline())
	}
	if next < 0 {
		return false
	}
	r.now = next
	for i := 0; i < len(r.wire); i++ {
		if p := r.wire[i]; p.at <= r.now {
			r.wire = append(r.wire[:i], r.wire[i+1:]...)
			r.take(p.to, p.data)
			r.settle()
			i = -1
		}
	}
	r.client.Expire(r.now)
	r.l.Expire(r.now)
	if r.server != nil {
		r.server.Expire(r.now)
	}
	return true
}

// TestC120FastOpenLossy: whatever becomes of the SYN with its text, of the answers and of the handshake, both texts arrive once
// and whole, and both ends finish.
func TestC120FastOpenLossy(t *testing.T) {
	request := []byte("request")
	for len(request) < 3000 {
		request = fmt.Appendf(request, " %d", len(request))
	}
	fast, ordinary := 0, 0
	for seed := range uint64(400) {
		r := &fastRun{random: rand.New(rand.NewPCG(seed, 1)), config: full()}
		r.config.NoSACK, r.config.NoTimestamps, r.config.ECN = seed%2 == 1, seed%3 == 1, ECN(seed%2)
		r.l = NewListener(ListenConfig{FastOpen: true, Secret: [32]byte{1}})
		cookie := r.l.fastCookie(testFlow(1), 0)
		if seed%5 == 4 {
			cookie = FastOpenCookie{}
		}
		r.client = Open(0, Seq(seed*0x10000000-5), &r.config)
		r.client.FastOpen(cookie, 1460)
		r.client.Write(0, request)
		r.settle()
		for i := 0; ; i++ {
			if i > 20000 {
				t.Fatalf("seed %d: no end: %+v", seed, r.client.Info())
			}
			r.settle()
			if r.client.State() == TimeWait || r.client.State() == Closed {
				break
			}
			if !r.step() {
				t.Fatalf("seed %d: nothing happens any more: %+v", seed, r.client.Info())
			}
		}
		if !bytes.Equal(r.got[1], request) || !bytes.Equal(r.got[0], bytes.Repeat([]byte("answer"), 2000)) {
			t.Fatalf("seed %d: the server has %d octets of %d, the client %d of 12000 (%v)", seed, len(r.got[1]), len(request), len(r.got[0]), r.client.Err())
		}
		if r.server.Info().FastOpen {
			fast++
		} else {
			ordinary++
		}
	}
	t.Logf("%d by Fast Open, %d by an ordinary handshake", fast, ordinary)
	if fast < 50 || ordinary < 50 {
		t.Errorf("%d by Fast Open, %d by an ordinary handshake; want many of both", fast, ordinary)
	}
}
