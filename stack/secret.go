package stack

import (
	"crypto/sha256"
	"encoding/binary"
	"hash/maphash"
	"sync"
	"time"

	"github.com/seed87e66d9f/waybill/tcp"
)

// secrets are the keys that make what we choose unpredictable.
type secrets struct {
	seed   maphash.Seed // of the connection table
	key    [32]byte     // of sequence numbers, timestamps, ports
	cookie [32]byte     // of SYN cookies
	mu     sync.Mutex
	pool   [256]byte // octets of Rand, handed out eight at a time
	left   int
	fill   func([]byte) error
}

func (x *secrets) init(fill func([]byte) error) {
	x.seed, x.fill = maphash.MakeSeed(), fill
	for _, b := range [][]byte{x.key[:], x.cookie[:], x.pool[:]} {
		if err := fill(b); err != nil {
			panic("stack: no random octets: " + err.Error()) // never with keys that can be guessed
		}
	}
	x.left = len(x.pool)
}

// random is 64 bits that nobody can predict.
func (x *secrets) random() uint64 {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.left < 8 {
		if x.fill(x.pool[:]) != nil { // the source ran dry later on: go on from the key and what was used
			sum := sha256.Sum256(append(x.key[:], x.pool[:]...))
			copy(x.pool[:], sum[:])
			x.left = len(sum)
		} else {
			x.left = len(x.pool)
		}
	}
	x.left -= 8
	return binary.NativeEndian.Uint64(x.pool[x.left:])
}

// iss is RFC 6528 §3's sequence number, ISN = M + F(localip, localport, remoteip, remoteport, secretkey), where M is a
// clock of 4 µs ticks, and the offset of the flow's timestamps (RFC 7323 §5.4), which grows from one connection to the next.
func (x *secrets) iss(now time.Duration, f *tcp.Flow) (tcp.Seq, uint32) {
	var b [32 + 40]byte
	copy(b[:], x.key[:])
	copy(b[32:], f.Local[:])
	copy(b[48:], f.Remote[:])
	binary.BigEndian.PutUint16(b[64:], f.LocalPort)
	binary.BigEndian.PutUint16(b[66:], f.RemotePort)
	binary.BigEndian.PutUint32(b[68:], f.Zone)
	sum := sha256.Sum256(b[:])
	tick := tcp.Seq(now / (4 * time.Microsecond))
	return tick + tcp.Seq(binary.BigEndian.Uint32(sum[:])), binary.BigEndian.Uint32(sum[4:])
}
