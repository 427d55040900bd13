package autoconf

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
	"slices"
	"time"
)

// RFC 7217 §7, and RFC 8981 §3.8.
const (
	idgenRetries = 3           // IDGEN_RETRIES
	idgenDelay   = time.Second // IDGEN_DELAY

	tempValid     = 48 * time.Hour // TEMP_VALID_LIFETIME
	tempPreferred = 24 * time.Hour // TEMP_PREFERRED_LIFETIME
	tempRetries   = 3              // TEMP_IDGEN_RETRIES
	// MAX_DESYNC_FACTOR, "0.4 * TEMP_PREFERRED_LIFETIME"
	maxDesync = tempPreferred / 10 * 4
	// REGEN_ADVANCE, "2 + (TEMP_IDGEN_RETRIES * DupAddrDetectTransmits * RetransTimer / 1000)" seconds
	regenAdvance = (2 + tempRetries) * time.Second
	// maxTemps is how many of one prefix are alive at a time: a new one is made after 14 hours at least, and lives for 48.
	maxTemps = 4
)

// stable is the address of a prefix that RFC 7217 §5 makes: RID = F(Prefix, Net_Iface, Network_ID, DAD_Counter, secret_key),
// here HMAC-SHA-256 without a Network_ID. It returns the counter that it has, since an identifier that is reserved is
// passed over.
func stable(c *Config, p netip.Prefix, counter uint8) (netip.Addr, uint8) {
	b := p.Masked().Addr().As16()
	for {
		f := hmac.New(sha256.New, c.Key[:])
		f.Write(b[:8])
		f.Write([]byte{counter, byte(p.Bits())})
		f.Write([]byte(c.Name))
		id := binary.BigEndian.Uint64(f.Sum(nil))
		if !reserved(id) {
			binary.BigEndian.PutUint64(b[8:], id)
			return netip.AddrFrom16(b), counter
		}
		counter++
	}
}

// reserved reports whether an interface identifier is no host's (RFC 5453 §3, RFC 4291 §2.6.1).
func reserved(id uint64) bool {
	return id == 0 || id >= 0xfdffffffffffff80 && id <= 0xfdffffffffffffff || id>>24 == 0x02005efffe
}

// ensure sees to it that a prefix has a temporary address that will still be preferred for a while, if any are wanted.
func (h *Host) ensure(now time.Duration, a *auto) {
	if !h.conf.Temporary || a.failed > tempRetries || len(a.temps) >= maxTemps || h.count() >= MaxAddrs ||
		slices.ContainsFunc(a.temps, func(t temp) bool { return !t.succeeded }) {
		return
	}
	t := temp{born: now, desync: h.random(maxDesync)}
	a.limit(&t)
	// RFC 8981 §3.4: "A temporary address is created only if this calculated preferred lifetime is greater than
	// REGEN_ADVANCE time units."
	if t.preferred-now <= regenAdvance {
		return
	}
	b := a.prefix.Addr().As16()
	id := h.conf.Rand() // RFC 8981 §3.3.1
	for reserved(id) {
		id = h.conf.Rand()
	}
	binary.BigEndian.PutUint64(b[8:], id)
	t.addr = netip.AddrFrom16(b)
	a.temps, h.changed = append(a.temps, t), true
}

// limit sets the lifetimes of a temporary address: those of the prefix, and its own (RFC 8981 §3.4).
func (a *auto) limit(t *temp) {
	t.valid = min(a.valid, t.born+tempValid)
	t.preferred = min(a.preferred, t.born+tempPreferred-t.desync, t.valid)
}
