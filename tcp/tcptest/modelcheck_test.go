package tcptest

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/seed87e66d9f/waybill/tcp"
)

var (
	modelSteps   = flag.Int("modelcheck.steps", 1_000_000, "how many steps TestModelCheck takes")
	modelSeed    = flag.Uint64("modelcheck.seed", 1, "where TestModelCheck begins")
	modelEpisode = flag.Uint64("modelcheck.episode", 0, "the one episode of the seed that TestModelCheck plays; 0: all")
)

// TestModelCheck lets two connections meet everything that users, timers and a channel which loses, repeats and reorders
// can do, a step at a time and at random, and looks after each step whether what must always hold does: that no octet is
// lost, doubled or changed, that no state is left but along RFC 9293's Figure 5, that nothing is sent beyond the window or
// taken that was not sent, that no window shrinks, and that a timer runs wherever something is owed. Each episode ends on a
// channel without faults: from there both ends must reach CLOSED, whatever has been. 10 million steps take
// a quarter of a minute:
//
//	go test ./tcp/tcptest -run ModelCheck -v -modelcheck.steps 10000000 -modelcheck.seed 1
func TestModelCheck(t *testing.T) {
	steps, seen, chunks := 0, map[[2]tcp.State]int{}, map[int][]*tcp.Chunk{}
	for episode := uint64(1); steps < *modelSteps; episode++ {
		if *modelEpisode != 0 {
			episode = *modelEpisode
		}
		m := newModel(*modelSeed, episode)
		m.seen, m.chunks = seen, chunks
		err := m.play()
		steps += m.steps
		if err != nil {
			m = newModel(*modelSeed, episode)
			m.logging, m.chunks = true, chunks
			m.play()
			t.Fatalf("-modelcheck.seed %d -modelcheck.episode %d, step %d: %v\nThe last steps were\n%s",
				*modelSeed, episode, m.steps, err, m.tail())
		}
		if *modelEpisode != 0 {
			break
		}
	}
	for from, all := range figure5 {
		for _, to := range all {
			if seen[[2]tcp.State{tcp.State(from), to}] == 0 && *modelEpisode == 0 {
				t.Errorf("%v to %v was never seen: the check does not reach it", tcp.State(from), to)
			}
		}
	}
	t.Logf("%d steps, seed %d", steps, *modelSeed)
}

// figure5 is RFC 9293 §3.3.2, Figure 5, from SYN-SENT and SYN-RECEIVED on. That ABORT, a reset and the user timeout lead to
// CLOSED from everywhere is its note 3 and §3.10; note 2 has a FIN that acknowledges ours lead from FIN-WAIT-1 to TIME-WAIT.
var figure5 = [...][]tcp.State{
	tcp.SynSent:     {tcp.SynReceived, tcp.Established, tcp.Closed},
	tcp.SynReceived: {tcp.Established, tcp.FinWait1},
	tcp.Established: {tcp.FinWait1, tcp.CloseWait},
	tcp.FinWait1:    {tcp.FinWait2, tcp.Closing, tcp.TimeWait},
	tcp.FinWait2:    {tcp.TimeWait},
	tcp.CloseWait:   {tcp.LastAck},
	tcp.Closing:     {tcp.TimeWait},
	tcp.LastAck:     {tcp.Closed},
	tcp.TimeWait:    {tcp.Closed},
}

// leads reports whether Figure 5 leads from a state to another. One segment may carry two events, such as the
// acknowledgement of the SYN and a FIN, and then lead on.
func leads(from, to tcp.State, arrival bool) bool {
	for _, s := range figure5[from] {
		if s == to || arrival && leads(s, to, true) {
			return true
		}
	}
	return false
}

// model is an episode.
type model struct {
	r       *rand.Rand
	now     time.Duration
	ends    [2]*modelEnd
	wire    []modelPacket
	free    [][]byte
	steps   int
	logging bool
	log     []string
	rough   bool // users abort and let go, ICMP errors come, patience ends
	perfect bool // the channel has no faults any more
	err     error
	seen    map[[2]tcp.State]int
	chunks  map[int][]*tcp.Chunk // free ones, by their size
	segment tcp.Segment
	header  [tcp.MaxHeaderLen]byte
	arrived tcp.Segment
	joined  []byte
	read    [40_000]byte
}

// modelPacket is a packet under way.
type modelPacket struct {
	to   int
	data []byte
}

// modelEnd is a connection with its user, and what is known about it.
type modelEnd struct {
	*tcp.TCB // nil: LISTEN
	m        *model
	k        int
	c        tcp.Config
	iss      tcp.Seq
	limit    int // octets that the user will write
	written  int
	read     int
	state    tcp.State
	edge     tcp.Seq // the right edge of the window as it was announced
	hasEdge  bool
	lent     int

	closed, aborted, released, deaf bool // what the user called: Close, Abort, Release, CloseRead
	finSent, reset, notified        bool // what it sent, and what arrived
	impatient                       bool
	refusing                        bool
	lazy                            bool // it seldom reads
	parked                          bool // something may be left to send
}

// Borrow makes an end its connection's Memory, which keeps account and at times lends nothing.
func (e *modelEnd) Borrow(n int) *tcp.Chunk {
	if e.refusing && !e.m.perfect && e.m.r.IntN(6) == 0 {
		return nil
	}
	e.lent++
	all := e.m.chunks[n]
	if len(all) == 0 {
		return tcp.NewChunk(n)
	}
	e.m.chunks[n] = all[:len(all)-1]
	return all[len(all)-1]
}

// Return implements tcp.Memory.
func (e *modelEnd) Return(c *tcp.Chunk) {
	e.lent--
	clear(c.Bytes) // whoever still reads it is found out
	e.m.chunks[len(c.Bytes)] = append(e.m.chunks[len(c.Bytes)], c)
}

// texts is what the two users write, again and again; twice, so that any run of one length is in one piece.
var texts = func() (all [2][]byte) {
	r := rand.New(rand.NewPCG(5, 5))
	for k := range all {
		b := make([]byte, 65521)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		all[k] = append(b, b...)
	}
	return all
}()

// text is n octets of what user k writes, from at on.
func text(k, at, n int) []byte {
	at %= 65521
	return texts[k][at : at+n]
}

func newModel(seed, episode uint64) *model {
	m := &model{r: rand.New(rand.NewPCG(seed, episode))}
	m.rough = m.r.IntN(2) == 0
	for k := range m.ends {
		e := &modelEnd{m: m, k: k, iss: tcp.Seq(m.r.Uint32()), limit: m.r.IntN([...]int{1, 3000, 60_000}[m.r.IntN(3)])}
		if m.r.IntN(2) == 0 {
			e.iss = tcp.Seq(-m.r.IntN(20_000)) // it wraps
		}
		e.configure()
		m.ends[k] = e
	}
	m.ends[0].open()
	if m.r.IntN(4) == 0 {
		m.ends[1].open()
	}
	return m
}

// configure draws a Config.
func (e *modelEnd) configure() {
	r := e.m.r
	pick := func(all ...int) int { return all[r.IntN(len(all))] }
	e.c = tcp.Config{
		MTU: pick(1480, 1480, 600, 100, 9000), MaxText: pick(0, 0, 65000, 5000),
		ReadBuffer: pick(0, 9000, 2000, 200_000), WriteBuffer: pick(0, 5000, 100, 200_000),
		NoTimestamps: r.IntN(3) == 0, NoSACK: r.IntN(3) == 0, NoScale: r.IntN(3) == 0, Nagle: r.IntN(3) == 0,
		// TIME-WAIT must outlast what the channel does, or a reset answers the last FIN
		MSL: 100 * time.Hour, UserTimeout: 10_000 * time.Hour, SYNTimeout: 10_000 * time.Hour,
		Memory: e,
	}
	if r.IntN(2) == 0 {
		e.c.Congestion = tcp.NewReno
	}
	if e.m.rough && r.IntN(3) == 0 {
		e.impatient = true
		e.c.MSL, e.c.UserTimeout, e.c.SYNTimeout = time.Second, 3*time.Second, 3*time.Second
	}
	e.refusing = r.IntN(5) == 0
	e.lazy = r.IntN(3) == 0
}

func (e *modelEnd) open() {
	e.TCB, e.state = tcp.Open(e.m.now, e.iss, &e.c), tcp.SynSent
	e.flush()
}

func (m *model) note(format string, args ...any) {
	if m.logging {
		m.log = append(m.log, fmt.Sprintf("%v ", m.now)+fmt.Sprintf(format, args...))
	}
}

func (m *model) tail() string { return strings.Join(m.log[max(0, len(m.log)-60):], "\n") }

// fail notes the first thing that does not hold.
func (m *model) fail(format string, args ...any) {
	if m.err == nil {
		m.err = fmt.Errorf(format, args...)
		m.note("FAILS: %v", m.err)
	}
}

// play takes some random steps, and then ends the episode.
func (m *model) play() error {
	for n := m.r.IntN([...]int{20, 100, 400}[m.r.IntN(3)]); n > 0 && m.err == nil; n-- {
		m.step()
	}
	m.perfect = true
	for i := 0; m.err == nil && !m.finish(); i++ {
		if i == 30_000 {
			m.fail("the ends do not finish: %+v and %+v", m.ends[0].info(), m.ends[1].info())
		}
	}
	if m.err == nil {
		m.checkEnd()
	}
	return m.err
}

func (e *modelEnd) info() tcp.Info {
	if e.TCB == nil {
		return tcp.Info{State: tcp.Listen}
	}
	return e.Info()
}

// step is something that may happen next.
func (m *model) step() {
	m.steps++
	e := m.ends[m.r.IntN(2)]
	switch n := m.r.IntN(32); {
	case n < 12 && len(m.wire) > 0:
		i := 0
		if m.r.IntN(3) == 0 {
			i = m.r.IntN(len(m.wire))
		}
		m.channel(i)
	case n < 18:
		m.time()
	case e.TCB == nil || e.released || e.aborted:
	case n < 22:
		e.write()
	case n < 26:
		if !e.lazy || m.r.IntN(10) == 0 {
			e.receive()
		}
	case n < 27:
		if m.r.IntN(3) == 0 {
			e.close()
		}
	case n < 30 || !m.rough:
		e.set()
	default:
		e.rough()
	}
	m.check()
}

// channel lets something become of packet i.
func (m *model) channel(i int) {
	switch n := m.r.IntN(10); {
	case m.perfect || n < 6 || len(m.wire) > 60:
		m.arrive(i, true)
	case n < 8:
		m.note("lost: the %d. packet, to %d", i, m.wire[i].to)
		m.free = append(m.free, m.wire[i].data)
		m.wire = append(m.wire[:i], m.wire[i+1:]...)
	default:
		m.arrive(i, false) // and it will arrive again
	}
}

// time lets the next timer expire, or some time pass before it.
func (m *model) time() bool {
	var next *modelEnd
	at := time.Duration(0)
	for _, e := range m.ends {
		if e.TCB == nil {
			continue
		}
		if e.parked {
			e.flush() // the device is not busy for long
			return true
		}
		if d, ok := e.Deadline(); ok && (next == nil || d < at) {
			next, at = e, d
		}
	}
	if next == nil {
		return false
	}
	if at > m.now && !m.perfect && m.r.IntN(3) == 0 {
		m.now += time.Duration(m.r.Int64N(int64(min(at-m.now, 100*time.Millisecond)) + 1))
		return true
	}
	m.now = max(m.now, at)
	m.note("%d: a timer expires", next.k)
	next.Expire(m.now)
	next.moved("Expire", false)
	if d, ok := next.Deadline(); ok && d == at && d != m.now {
		m.fail("the timer of end %d is due at %v still after it expired at %v", next.k, d, m.now)
	}
	next.flush()
	return true
}

// arrive hands packet i to its end, and takes it off the wire where last.
func (m *model) arrive(i int, last bool) {
	p := m.wire[i]
	e := m.ends[p.to]
	s := &m.arrived
	data := p.data
	if last {
		m.wire = append(m.wire[:i], m.wire[i+1:]...)
	} else {
		data = append(m.buffer(), data...)
	}
	if _, err := s.Decode(data); err != nil {
		m.fail("what was sent does not decode: %v", err)
		return
	}
	if m.logging {
		m.note("%d: %v arrives", p.to, s.String())
	}
	e.reset = e.reset || s.Flags.Has(tcp.RST)
	switch {
	case e.TCB == nil && s.Flags&(tcp.SYN|tcp.ACK|tcp.RST) == tcp.SYN:
		e.TCB, e.state = tcp.Accept(m.now, e.iss, s, &e.c), tcp.SynReceived
	case e.TCB == nil || e.state == tcp.Closed:
		if r, ok := tcp.ResetFor(s); ok {
			m.put(1-p.to, &r)
		}
	default:
		ev := e.Arrive(m.now, s)
		if d := ev.Drop(); d != tcp.DropNone {
			m.note("%d: refused by %v", p.to, d)
		}
		e.moved("Arrive", true)
	}
	clear(data) // it was borrowed
	m.free = append(m.free, data)
	e.flush()
}

func (m *model) buffer() []byte {
	if n := len(m.free); n > 0 {
		b := m.free[n-1]
		m.free = m.free[:n-1]
		return b[:0]
	}
	return make([]byte, 0, 2048)
}

// put encodes s, in packets of s.Size where it has one, and puts it on the wire.
func (m *model) put(to int, s *tcp.Segment) {
	m.joined = m.joined[:0]
	for _, t := range s.Text {
		m.joined = append(m.joined, t...)
	}
	all, flags := m.joined, s.Flags
	for first := true; first || len(all) > 0; first = false {
		n := len(all)
		s.Flags = flags
		if s.Size > 0 && n > int(s.Size) {
			n = int(s.Size)
			s.Flags &^= tcp.FIN | tcp.PSH
		}
		b := append(m.buffer(), m.header[:]...)
		b = append(b[:s.Encode(b, tcp.Ports{Src: 1, Dst: 2})], all[:n]...)
		all = all[n:]
		s.Seq += tcp.Seq(n)
		m.wire = append(m.wire, modelPacket{to, b})
	}
}

// flush sends what there is to send.
func (e *modelEnd) flush() {
	m := e.m
	if e.TCB == nil {
		return
	}
	if e.parked = !m.perfect && m.r.IntN(20) == 0; e.parked {
		return // the device is busy
	}
	s := &m.segment
	for i := 0; e.Next(m.now, s); i++ {
		if i == 3000 {
			m.fail("Next of end %d does not end: %v", e.k, s)
			return
		}
		if m.logging {
			m.note("%d: sends %v, window %d (%v)", e.k, s.String(), s.Window, s.Cause)
		}
		e.moved("Next", false)
		e.checkSent(s)
		m.put(1-e.k, s)
	}
	e.moved("Next", false)
}
